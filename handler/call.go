package handler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// call adapts a function to a route: decode the body, call, encode the answer.
func call[In, Out any](f func(c echo.Context, in In) (Out, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		var in In
		if err := decode(c.Request(), &in); err != nil {
			return err
		}
		out, err := f(c, in)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, out)
	}
}

// decode reads an optional JSON body. A field that is not known is refused: a
// misspelt limit must not become a pass without one.
func decode(r *http.Request, into any) error {
	if kind := r.Header.Get("Content-Type"); kind != "" && !strings.HasPrefix(kind, "application/json") && r.ContentLength != 0 {
		return echo.NewHTTPError(http.StatusUnsupportedMediaType, "the body must be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes+1))
	switch {
	case err != nil:
		return echo.NewHTTPError(http.StatusBadRequest, "the body could not be read")
	case len(body) > maxBodyBytes:
		return tooLarge()
	case len(bytes.TrimSpace(body)) == 0:
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the body is not what is expected here: "+plain(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return echo.NewHTTPError(http.StatusBadRequest, "there is text after the JSON document")
	}
	return nil
}

func tooLarge() error {
	return echo.NewHTTPError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBodyBytes))
}

// plain takes the package's name off a decoding error.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "json: ") }

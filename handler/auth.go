package handler

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// authenticate refuses a request without a valid token, before its body is read.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		tokens := s.Tokens()
		if len(tokens) > 0 && !known(bearer(c.Request()), tokens) {
			c.Response().Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
			return echo.NewHTTPError(http.StatusUnauthorized, "a bearer token is needed: Authorization: Bearer <one of SLIPWAY_AUTH_TOKENS>")
		}
		return next(c)
	}
}

func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// known takes the same time whichever token matches, and whatever their lengths.
func known(given string, tokens []string) bool {
	digest := sha256.Sum256([]byte(given))
	match := 0
	for _, token := range tokens {
		want := sha256.Sum256([]byte(token))
		match |= subtle.ConstantTimeCompare(digest[:], want[:])
	}
	return match == 1 && given != ""
}

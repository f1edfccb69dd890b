package prefect

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// redirectError is a redirect that is not followed.
type redirectError struct{ words string }

func (e *redirectError) Error() string { return e.words }

// maxRedirects is net/http's own bound.
const maxRedirects = 10

// sameOrigin refuses a redirect to another scheme, host or port: the request has
// credentials in headers that net/http does not know as such, and would be sent
// along with them.
func sameOrigin(req *http.Request, via []*http.Request) error {
	from, to := origin(via[0].URL), origin(req.URL)
	if from != to {
		return &redirectError{fmt.Sprintf("the server at %s redirects to %s, which is not followed with credentials: set PREFECT_API_URL to the address meant", from, to)}
	}
	if len(via) >= maxRedirects {
		return &redirectError{fmt.Sprintf("the server at %s redirects in a circle", from)}
	}
	return nil
}

// origin is the scheme, host and port of an address, and no more of it: the rest
// may hold a secret.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

package admin

import (
	"net/url"
	"slices"
	"strconv"
)

const (
	// defaultLimit and maxLimit are rows of a page: a page has to fit into one message of
	// the mesh, 256 KiB.
	defaultLimit = 100
	maxLimit     = 200
	// maxPage is the longest page token, in octets.
	maxPage = 512
)

// query is the part of a list request behind the question mark.
type query struct {
	limit    uint32
	page     string
	clientID string
	// values are those that the handler reads itself.
	values url.Values
}

// parseQuery reads limit, page and what else is allowed; a parameter that is unknown or
// stands twice is refused, since a filter that is not applied shows too much.
func parseQuery(u *url.URL, allowed ...string) (query, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return query{}, badRequest("The query cannot be read.")
	}
	q := query{limit: defaultLimit, page: values.Get("page"), clientID: values.Get("client_id"), values: values}
	for name, given := range values {
		switch {
		case !slices.Contains(allowed, name):
			return query{}, badRequest("There is no parameter %q.", name)
		case len(given) != 1 || given[0] == "":
			return query{}, badRequest("The parameter %q has to stand once, with a value.", name)
		}
	}
	if len(q.page) > maxPage {
		return query{}, badRequest("The page is not one that was given out.")
	}
	if text := values.Get("limit"); text != "" {
		limit, err := strconv.ParseUint(text, 10, 32)
		if err != nil || limit < 1 || limit > maxLimit {
			return query{}, badRequest("The limit has to be between 1 and %d.", maxLimit)
		}
		q.limit = uint32(limit)
	}
	return q, nil
}

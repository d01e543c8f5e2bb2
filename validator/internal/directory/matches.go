package directory

import (
	"context"
	"fmt"

	"github.com/go-ldap/ldap/v3"
)

// Matches tells whether an entry fits a filter (RFC 4515), as the service account sees it.
// Errors are those of Find.
func (c *Client) Matches(ctx context.Context, e Entry, filter string) (bool, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	entries, err := c.search(ctx, fold(e.Principal), query{
		base: e.DN, scope: ldap.ScopeBaseObject, filter: filter, attributes: []string{"1.1"}, limit: 1,
	})
	found, err := one(entries, err, e.DN)
	if err != nil {
		return false, unavailable("Matches", fmt.Errorf("holding %.200q against a filter: %w", e.DN, err))
	}
	return found != nil, nil
}

// Check tells what is wrong with a configuration, without opening anything: a *SettingError.
func (c Config) Check() error {
	_, err := c.check()
	return err
}

package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/config"
	"github.com/estuary-pki/estuary/validator/internal/kerberos"
)

// maxKeepRemoved bounds how long a key that left the keytab is used.
const maxKeepRemoved = 30 * 24 * time.Hour

// GSSAPI is the [gssapi] table.
type GSSAPI struct {
	Enabled          bool        `toml:"enabled" doc:"Whether Kerberos tickets are accepted, under the labels with negotiate = true."`
	Keytab           config.Path `toml:"keytab" doc:"Keytab with the keys of the service (MIT format). Read again when it changes; while it cannot be read the keys that were there last are used. Must not be accessible to other users."`
	ServicePrincipal string      `toml:"service_principal" doc:"Principal that tickets have to be for, HTTP/host@REALM: the host is what clients write in the URL."`
	Aliases          []string    `toml:"aliases" doc:"Further principals that tickets may be for, each service/host@REALM, where gateways are reached by several names."`
	Realms           []string    `toml:"realms" doc:"Realms of clients that are accepted; empty for that of service_principal. Those of other realms need a cross-realm ticket whose way the KDC has checked."`

	ClockSkew       config.Duration   `toml:"clock_skew" doc:"By how much the clocks of client and validator may differ, 1s to 5m."`
	ChannelBindings kerberos.Bindings `toml:"channel_bindings" doc:"What is demanded of a client's channel binding (tls-server-end-point, RFC 5929): absent-ok (a client may send none; a wrong one is refused), required, or off (none is looked at: only for gateways behind a proxy that ends TLS)."`
	KeepRemovedKeys config.Duration   `toml:"keep_removed_keys" doc:"For how long a key that is not in the keytab any more opens tickets, 0s to 30d: as long as a ticket can live. After a key was stolen set 0s and restart."`
}

func defaultGSSAPI() GSSAPI {
	return GSSAPI{
		ClockSkew: config.Duration(2 * time.Minute), ChannelBindings: kerberos.BindingsAbsentOK,
		KeepRemovedKeys: config.Duration(24 * time.Hour),
	}
}

// Check reports what cannot work.
func (g *GSSAPI) Check(r *config.Report) {
	if !slices.Contains(kerberos.AllBindings, g.ChannelBindings) {
		r.Add("channel_bindings", `has to be "absent-ok", "required" or "off", not %q`, string(g.ChannelBindings))
	}
	if d := time.Duration(g.ClockSkew); d < time.Second || d > kerberos.MaxSkew {
		r.Add("clock_skew", "has to be between 1s and %s, not %s", config.Duration(kerberos.MaxSkew), g.ClockSkew)
	}
	if d := time.Duration(g.KeepRemovedKeys); d < 0 || d > maxKeepRemoved {
		r.Add("keep_removed_keys", "has to be between 0s and 30d, not %s", g.KeepRemovedKeys)
	}
	g.checkNames(r)
	if g.Enabled {
		needFile(r, "keytab", g.Keytab)
	}
}

func (g *GSSAPI) checkNames(r *config.Report) {
	if g.Enabled && g.ServicePrincipal == "" {
		r.Add("service_principal", "is missing")
	} else if g.ServicePrincipal != "" {
		checkPrincipal(r, "service_principal", g.ServicePrincipal)
	}
	for i, alias := range g.Aliases {
		key := "aliases[" + strconv.Itoa(i) + "]"
		checkPrincipal(r, key, alias)
		if alias == g.ServicePrincipal || slices.Contains(g.Aliases[:i], alias) {
			r.Add(key, "%q stands there twice", alias)
		}
	}
	for i, realm := range g.Realms {
		if needText(r, "realms["+strconv.Itoa(i)+"]", realm); strings.Contains(realm, "@") || slices.Contains(g.Realms[:i], realm) {
			r.Add("realms["+strconv.Itoa(i)+"]", "%q is no realm, or stands there twice", realm)
		}
	}
}

func checkPrincipal(r *config.Report, key, principal string) {
	if _, _, ok := kerberos.SplitPrincipal(principal); !ok {
		r.Add(key, "has to be service/host@REALM, not %q", principal)
	}
}

// Principals are those that tickets may be for.
func (g *GSSAPI) Principals() []string { return append([]string{g.ServicePrincipal}, g.Aliases...) }

// ClientRealms are the realms of clients that are accepted.
func (g *GSSAPI) ClientRealms() []string {
	if len(g.Realms) > 0 {
		return g.Realms
	}
	_, realm, _ := kerberos.SplitPrincipal(g.ServicePrincipal)
	return []string{realm}
}

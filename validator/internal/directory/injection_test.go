package directory_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// tricks are what a name is spoiled with.
var tricks = []string{
	"*", "(", ")", "\\", "\\2a", "\\00", "\x00", "@", "@" + realm, "@AD.TEST", "@" + realm + "@" + realm, ",", "=", "+", "\"", ";", "#",
	"<", ">", "/", "'", " ", "  ", "\t", "\r\n", "\u202e", "\u212a", "ſ", "é", "\xff", "\xc0\xaa", "&", "|", "!", "~", "%2a", "%00", "$",
	")(uid=*", "*)(objectClass=*", ")(|(uid=*", "*))%00", "uid=", ",cn=users", "admin", "alice", "=*", "\u00a0", "\u0085", "\ufeff",
}

// spoiled returns a name made of others and tricks.
func spoiled(r *rand.Rand, names []string) string {
	name := names[r.IntN(len(names))]
	for range 1 + r.IntN(3) {
		at := r.IntN(len(name) + 1)
		trick := tricks[r.IntN(len(tricks))]
		switch r.IntN(7) {
		case 0:
			name = name[:at] + trick
		case 1:
			name = trick + name[at:]
		case 2:
			name = name[:at] + trick + name[min(at+1, len(name)):]
		case 3:
			name = strings.ToUpper(name[:at]) + name[at:]
		case 4:
			octet := []byte{byte(r.IntN(256))}
			name = name[:at] + string(octet) + name[at:]
		case 5:
			name += trick + names[r.IntN(len(names))]
		default:
			name = name[:at] + trick + name[at:]
		}
		if name == "" {
			name = trick
		}
	}
	return name
}

// injection asks for 10,000 spoiled names. Only a name that is an entry's finds it, and no
// login is tried at another entry.
func (w world) injection(t *testing.T) {
	exact := strings.EqualFold(w.config.PrincipalAttribute, "krbPrincipalName")
	names := slices.Sorted(maps.Keys(w.found))
	owner := func(name string) (string, bool) { // the DN that a name may lead to
		local := strings.TrimSuffix(name, "@"+w.config.Realm)
		for known, e := range w.found {
			if local == known || !exact && directory.Fold(local) == directory.Fold(known) {
				return e.DN, true
			}
		}
		return "", false
	}
	d := client(t, w.config)
	const workers, each = 8, 1250
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 4))
			for range each {
				name := spoiled(r, names)
				e, err := d.Find(t.Context(), name)
				dn, known := owner(name)
				switch {
				case err == nil && !known && e.Principal == strings.TrimSuffix(name, "@"+w.config.Realm):
					// An account of the server's own that has the very name, such as admin.
				case err == nil && (!known || !directory.SameDN(e.DN, dn)):
					t.Errorf("%q finds %s", name, e.DN)
				case err != nil && !errors.Is(err, directory.ErrNotFound):
					t.Errorf("%q: %v", name, err)
				case err == nil && directory.SameDN(e.DN, w.found[w.plain].DN):
					if b, err := d.Bind(t.Context(), e, secret.New([]byte(w.password)), directory.BindOptions{}); err != nil || !b.Accepted {
						t.Errorf("%q: %+v, %v", name, b, err)
					}
				}
			}
		})
	}
	all.Wait()
	if w.bound == nil {
		return
	}
	allowed := []string{w.config.BindDN}
	for _, e := range w.found {
		allowed = append(allowed, e.DN)
	}
	for _, dn := range w.bound(t) {
		if !slices.ContainsFunc(allowed, func(known string) bool { return directory.SameDN(known, dn) }) {
			t.Errorf("a bind to %q", dn)
		}
	}
}

// A server that takes every filter for true hands out an entry for each name: none is taken.
func TestInjectionWithLooseServer(t *testing.T) {
	s := listen(t, "")
	s.search = func(string, string) answer { return answer{entries: []entry{person("alice", nil)}} }
	config, log := settings(s.url())
	w := world{
		config: config, log: log, plain: "alice", password: "x",
		found: map[string]directory.Entry{"alice": {DN: alice}},
		bound: func(*testing.T) []string { return s.tried() },
	}
	t.Run("names", w.injection)
	if len(s.tried()) == 0 {
		t.Error("no name was alice's: nothing has been tried")
	}
}

package directory_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/validator/internal/directory"
)

// world is a directory with people in it. The contract is the same for all of them.
type world struct {
	config directory.Config
	log    *buffer
	// urls are the servers' ways in; the first is used where one is enough.
	urls []string
	// password is everybody's.
	password string
	// certificate and key are a client certificate that SASL EXTERNAL maps to the service
	// account; empty where there is none.
	certificate, key string
	// plain has a password and no token.
	plain string
	// found are entries by the name that finds them, without their DN's spelling.
	found map[string]directory.Entry
	// logins is what binds prove.
	logins []loginCase
	// code returns the next right code of a user.
	code func(t *testing.T, user string) string
	// proxies and lockouts are by user.
	proxies  map[string]directory.RADIUSProxy
	lockouts map[string]directory.Lockout
	// bound returns the DNs that anybody has tried to bind to; nil where nobody can say.
	bound func(t *testing.T) []string
	// wrong are the subjects that Verify finds fault with.
	wrong []string
}

// loginCase is one bind.
type loginCase struct {
	user string
	// code puts the next right code behind the password, wrong spoils the password.
	code, wrong bool
	options     directory.BindOptions
	want        directory.Bind // without Server
}

// contract is what holds with every directory.
func contract(t *testing.T, w world) {
	t.Run("open", w.open)
	t.Run("lookup", w.lookup)
	t.Run("nobody", w.nobody)
	t.Run("logins", w.binds)
	t.Run("proxies", w.radius)
	t.Run("lockouts", w.policies)
	t.Run("ways in", w.waysIn)
	t.Run("wrong settings", w.wrongSettings)
	t.Run("verify", w.verify)
	t.Run("injection", w.injection)
}

func (w world) open(t *testing.T) {
	d := client(t, w.config)
	if err := d.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func (w world) lookup(t *testing.T) {
	d := client(t, w.config)
	for name, want := range w.found {
		for _, name := range []string{name, name + "@" + w.config.Realm} {
			got, err := d.Find(t.Context(), name)
			if err != nil || !directory.SameDN(got.DN, want.DN) {
				t.Errorf("%s: %+v, %v", name, got, err)
				continue
			}
			got.DN = want.DN
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
		}
	}
}

func (w world) nobody(t *testing.T) {
	d := client(t, w.config)
	for _, name := range []string{
		"nobody", w.plain + "@AD.TEST", w.plain + "@" + strings.ToLower(w.config.Realm), w.plain + "@" + w.config.Realm + "@" + w.config.Realm,
		w.plain[:2] + "*", "*", w.plain + ")(uid=*", w.plain + "\x00", w.plain + "\\00", w.plain + "@" + w.config.Realm + "\x00", w.plain + " ",
		`\2a`, w.plain + "#", w.plain + ",cn=users", "uid=" + w.plain, "",
	} {
		if got, err := d.Find(t.Context(), name); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
}

func (w world) binds(t *testing.T) {
	d := client(t, w.config)
	for _, c := range w.logins {
		e, err := d.Find(t.Context(), c.user)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		password := w.password
		if c.wrong {
			password = "not " + password
		}
		if c.code {
			password += w.code(t, c.user)
		}
		got, err := d.Bind(t.Context(), e, secret.New([]byte(password)), c.options)
		if got.Server == "" {
			t.Errorf("%+v: no server", c)
		}
		if got.Server = ""; err != nil || got != c.want {
			t.Errorf("%s, code %v, wrong %v, %+v: %+v, %v; want %+v", c.user, c.code, c.wrong, c.options, got, err, c.want)
		}
	}
	if strings.Contains(w.log.String(), w.password) {
		t.Error("a password is in the log")
	}
}

func (w world) radius(t *testing.T) {
	d := client(t, w.config)
	for user, want := range w.proxies {
		e, err := d.Find(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Proxy(t.Context(), e)
		if diff := cmp.Diff(want, sorted(got), cmp.Comparer(secret.Bytes.Equal)); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", user, err, diff)
		}
	}
}

func (w world) policies(t *testing.T) {
	d := client(t, w.config)
	for user, want := range w.lockouts {
		e, err := d.Find(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Lockout(t.Context(), e); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", user, got, err, want)
		}
	}
}

// waysIn goes through LDAPS, StartTLS and LDAPI, and SASL EXTERNAL.
func (w world) waysIn(t *testing.T) {
	try := func(c directory.Config) {
		t.Helper()
		d := client(t, c)
		if err := d.Open(t.Context()); err != nil {
			t.Errorf("%s: %v", c.Servers, err)
			return
		}
		e, err := d.Find(t.Context(), w.plain)
		if err != nil {
			t.Errorf("%s: %v", c.Servers, err)
			return
		}
		b, err := d.Bind(t.Context(), e, secret.New([]byte(w.password)), directory.BindOptions{})
		if err != nil || !b.Accepted {
			t.Errorf("%s: %+v, %v", c.Servers, b, err)
		}
	}
	c := w.config
	for _, url := range w.urls {
		c.Servers = []string{url}
		try(c)
	}
	c.Servers, c.BaseDN = w.urls, ""
	try(c)
	if w.certificate == "" {
		return
	}
	for _, url := range w.urls {
		if strings.HasPrefix(url, "ldapi:") {
			continue // maps the user of the socket, who is the manager here
		}
		c.Servers, c.Certificate, c.Key = []string{url}, w.certificate, w.key
		c.BindDN, c.Password = "", secret.Bytes{}
		try(c)
	}
}

func (w world) wrongSettings(t *testing.T) {
	stranger := newAuthority(t)
	for key, set := range map[string]func(*directory.Config){
		"ca":                     func(c *directory.Config) { c.CA = stranger.file },
		"base_dn":                func(c *directory.Config) { c.BaseDN = "dc=nowhere,dc=test" },
		"bind_dn, password_file": func(c *directory.Config) { c.Password = secret.New([]byte("wrong")) },
		"otp_required_control":   func(c *directory.Config) { c.OTPRequiredControl = true },
	} {
		if key == "otp_required_control" && w.config.OTPRequiredControl {
			continue // this directory has it
		}
		c := w.config
		set(&c)
		err := client(t, c).Open(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "[directory] "+key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func (w world) verify(t *testing.T) {
	var wrong []string
	for _, f := range client(t, w.config).Verify(t.Context()) {
		if !f.OK {
			wrong = append(wrong, f.Subject)
		}
	}
	if !slices.Equal(wrong, w.wrong) {
		t.Errorf("Verify finds fault with %q, want %q", wrong, w.wrong)
	}
}

// sorted returns the configuration with its servers in order.
func sorted(p directory.RADIUSProxy) directory.RADIUSProxy {
	p.Servers = slices.Sorted(slices.Values(p.Servers))
	return p
}

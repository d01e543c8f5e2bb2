// Package lint turns a certificate that is about to be issued into a verdict: does it keep
// the rules of RFC 5280 and its relatives?
//
// issue calls Check with a certificate under a throw-away signature, before anything is
// recorded and the authority's key is used. It is the only package that knows zlint.
package lint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zlintlint "github.com/zmap/zlint/v3/lint"
)

// sources are the rules of the internet at large. Those of the CA/Browser Forum, of browsers
// and of ETSI are for authorities that browsers trust by default, which this one is not.
var sources = zlintlint.SourceList{zlintlint.RFC5280, zlintlint.RFC5480, zlintlint.Community}

// excluded lists the lints of those sources that are wrong here, each with the reason.
var excluded = map[string]string{
	"e_key_usage_and_extended_key_usage_inconsistent": "with several purposes its verdict depends on the order in which Go walks a map; package profile holds profiles to RFC 5280 section 4.2.1.12 when they are loaded",

	"e_ext_san_uri_host_not_fqdn_or_ip": "SPIFFE ids (spiffe://trust-domain/path) and hosts of a single label are usual in private networks",
	"e_subj_contains_html_entities":     "a subject is text, not HTML: whoever shows it escapes it",
}

// Linter checks certificates. It is safe for concurrent use.
type Linter struct {
	registry zlintlint.Registry
}

// New selects the lints.
func New() (*Linter, error) {
	registry, err := zlintlint.GlobalRegistry().Filter(zlintlint.FilterOptions{
		IncludeSources: sources, ExcludeNames: slices.Sorted(maps.Keys(excluded)),
	})
	if err != nil {
		return nil, fmt.Errorf("selecting lints: %w", err)
	}
	return &Linter{registry: registry}, nil
}

// Check returns nil for a certificate in DER that keeps the rules, or an error with the
// names of all lints that it fails. Warnings and notices pass: they are matters of taste.
func (l *Linter) Check(der []byte) error {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("reading certificate to lint: %w", err)
	}
	var failed []string
	for name, result := range zlint.LintCertificateEx(certificate, l.registry).Results {
		if result.Status < zlintlint.Error {
			continue
		}
		if result.Details != "" {
			name += " (" + result.Details + ")"
		}
		failed = append(failed, name)
	}
	if len(failed) == 0 {
		return nil
	}
	slices.Sort(failed)
	return fmt.Errorf("linting certificate: %w", errors.New(strings.Join(failed, ", ")))
}

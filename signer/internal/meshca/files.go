package meshca

import (
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/estuary-pki/estuary/services/newfile"
	"github.com/estuary-pki/estuary/services/secret"
	"github.com/estuary-pki/estuary/signer/internal/key"
)

// pair returns the two files of a holder, the key first: a service that looks between the
// two finds a pair that does not match and keeps its old one.
func pair(base string, certificate []byte, private *key.File) ([]newfile.File, error) {
	text, err := private.PEM(secret.Bytes{})
	if err != nil {
		return nil, err
	}
	return []newfile.File{
		{Path: base + ".key", Data: text.Reveal(), Mode: newfile.Secret},
		{Path: base + ".crt", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), Mode: newfile.Open},
	}, nil
}

// checkName refuses what is not a lower-case host name of at least two labels (RFC 1123
// section 2.1): it becomes a file name, and peers compare it octet by octet.
func checkName(name string) error {
	labels := strings.Split(name, ".")
	if len(labels) < 2 || len(name) > 253 {
		return fmt.Errorf("mesh name %q is not a DNS name such as signer.estuary.internal", name)
	}
	for _, label := range labels {
		bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
		if label == "" || len(label) > 63 || strings.IndexFunc(label, bad) >= 0 || strings.Trim(label, "-") != label {
			return fmt.Errorf("mesh name %q is not a DNS name such as signer.estuary.internal", name)
		}
	}
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

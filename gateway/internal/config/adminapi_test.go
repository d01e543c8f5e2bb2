package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/gateway/internal/config"
)

// hashFile is adminFile with the hash of the second token in a file.
var hashFile = strings.Replace(adminFile, `token_hash = "`+hashB+`"`, `token_hash_file = "token.hash"`, 1)

// TestHashFile: the file is read at the start, not with the configuration; what stands inline stays.
func TestHashFile(t *testing.T) {
	for name, content := range map[string]string{
		"as admin setup writes it": hashB + "\n",
		"no line end":              hashB,
		"written on Windows":       " " + hashB + "\r\n",
	} {
		a, folder, err := load(t, hashFile)
		if err != nil {
			t.Fatal(err)
		}
		tokens := a.API.BearerToken.Tokens
		path := filepath.Join(folder, "token.hash")
		if string(tokens[1].HashFile) != path || tokens[1].TokenHash != (config.TokenHash{}) {
			t.Errorf("loaded %+v", tokens[1])
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.API.BearerToken.ReadHashes(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if tokens[0].TokenHash.String() != hashA || tokens[1].TokenHash.String() != hashB {
			t.Errorf("%s: read %s, %s", name, tokens[0].TokenHash, tokens[1].TokenHash)
		}
	}
}

// TestHashFileRefused: a file that is not there, or does not hold exactly one hash of its own.
func TestHashFileRefused(t *testing.T) {
	const wrong = `has to be "sha256:" and 64 hexadecimal digits`
	for name, test := range map[string]struct{ content, want string }{
		"missing":         {"", "no such file"},
		"blank":           {"\n", wrong},
		"no algorithm":    {hashB[7:], wrong},
		"other algorithm": {"sha512" + hashB[6:], wrong},
		"short":           {hashB[:len(hashB)-2], wrong},
		"long":            {hashB + "00", wrong},
		"no hexadecimal":  {hashB[:len(hashB)-1] + "g", wrong},
		"two":             {hashB + "\n" + hashA + "\n", wrong},
		"another's":       {hashA, `of "ci" and "auditor" have the same hash`},
	} {
		a, folder, err := load(t, hashFile)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, "token.hash")
		if test.content != "" {
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err = a.API.BearerToken.ReadHashes()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		} else if name != "another's" && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error does not name the file: %v", name, err)
		}
	}
}

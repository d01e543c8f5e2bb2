package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/estuary-pki/estuary/services/audit"
)

const (
	recordLine     = `{"seq":7,"hash":"0707070707070707070707070707070707070707070707070707070707070707","audit":{"event":"x.y"}}`
	checkpointLine = `{"checkpoint":{"seq":9,"previous":7,"hash":"0909090909090909090909090909090909090909090909090909090909090909","at":"2026-11-22T12:00:00.000001Z","signature":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}}`
)

// read returns the lines, and the error that ends them.
func read(text string) (all []audit.Line, err error) {
	for l, err := range audit.ReadLines(strings.NewReader(text)) {
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	return all, nil
}

func TestReadLines(t *testing.T) {
	others := []string{"", "{", "null", "7", `"x"`, `[]`, `{"level":"INFO","seq":3}`, `{"audit":{"event":"told"}}`, `{"checkpoint":null}`, `{"seq":"x","audit":{}}`, `{"seq":-1,"audit":{}}`, "\xff\x00", recordLine[:90]}
	lines, err := read(strings.Join(others, "\n") + "\n" + recordLine + "\r\n" + checkpointLine)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if l := lines[0]; l.Seq != 7 || l.Hash != [32]byte(bytes.Repeat([]byte{7}, 32)) || l.Checkpoint != nil {
		t.Errorf("%+v", l)
	}
	c := lines[1].Checkpoint
	if lines[1].Seq != 9 || c == nil || c.Previous != 7 || c.Hash != [32]byte(bytes.Repeat([]byte{9}, 32)) || c.At.UnixMicro() != at.UnixMicro()+1 {
		t.Errorf("%+v", lines[1])
	}
	for name, text := range map[string]string{
		"long":      strings.Repeat("x", 1<<20+1),
		"hash":      strings.Replace(recordLine, "07", "0g", 1),
		"hash size": strings.Replace(recordLine, "0707", "07", 1),
		"signature": strings.Replace(checkpointLine, "AAAA", "AA*A", 1),
		"place":     strings.Replace(checkpointLine, `"previous":7`, `"previous":9`, 1),
		"number":    strings.Replace(checkpointLine, `"seq":9`, `"seq":0`, 1),
	} {
		if _, err := read("first\n" + text + "\n" + recordLine); err == nil || !strings.Contains(err.Error(), "line 2:") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever comes, a checkpoint that was read is written again as what it is.
func FuzzReadLines(f *testing.F) {
	f.Add(recordLine + "\n" + checkpointLine)
	f.Fuzz(func(t *testing.T, text string) {
		lines, _ := read(text)
		for _, l := range lines {
			if l.Seq < 1 {
				t.Errorf("number %d", l.Seq)
			}
			if l.Checkpoint == nil {
				continue
			}
			again, err := json.Marshal(map[string]*audit.Checkpoint{"checkpoint": l.Checkpoint})
			if err != nil {
				t.Fatal(err)
			}
			same, err := read(string(again))
			if err != nil || len(same) != 1 || same[0].Checkpoint.Hash != l.Hash || !same[0].Checkpoint.At.Equal(l.Checkpoint.At) {
				t.Errorf("%s: %v", again, err)
			}
		}
	})
}

// Package keytabtest turns entries into the keytab file that holds them.
//
// Tests call it, where no KDC runs that would write one.
package keytabtest

import (
	"encoding/binary"
	"strings"

	"github.com/estuary-pki/estuary/validator/internal/keytab"
)

// Write returns a keytab file of MIT's format with the entries in their order. A key is
// written as it is, whether its encryption type wants such a one or not. What stands before
// the first @ of a principal is cut at each slash.
func Write(entries ...keytab.Entry) []byte {
	file := []byte{5, 2}
	for _, e := range entries {
		r := record(e)
		file = append(binary.BigEndian.AppendUint32(file, uint32(len(r))), r...)
	}
	return file
}

func record(e keytab.Entry) []byte {
	name, realm, _ := strings.Cut(e.Principal, "@")
	components := strings.Split(name, "/")
	b := binary.BigEndian.AppendUint16(nil, uint16(len(components)))
	for _, s := range append([]string{realm}, components...) {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	b = binary.BigEndian.AppendUint32(b, 1) // the type of the name: NT-PRINCIPAL
	b = binary.BigEndian.AppendUint32(b, uint32(e.Made.Unix()))
	b = binary.BigEndian.AppendUint16(append(b, byte(e.KVNO)), uint16(e.EType))
	b = append(binary.BigEndian.AppendUint16(b, uint16(e.Key.Len())), e.Key.Reveal()...)
	if e.Short {
		return b
	}
	return binary.BigEndian.AppendUint32(b, e.KVNO)
}

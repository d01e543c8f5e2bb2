package keytab

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/estuary-pki/estuary/services/secret"
)

// The limits of a keytab.
const (
	maxEntries    = 4096
	maxComponents = 16
)

// version is that of the format with big-endian numbers, which every Kerberos writes since
// 1993.
const version = 0x0502

// keySizes are the algorithms that are used, with the size of their keys in octets: those of
// RFC 3962 and RFC 8009. Single and triple DES and RC4 are not (RFC 6649, RFC 8429).
var keySizes = map[int32]int{17: 16, 18: 32, 19: 16, 20: 32}

// KeySize returns the size of a key of an encryption type, in octets, and whether such keys are
// used.
func KeySize(etype int32) (octets int, used bool) {
	octets, used = keySizes[etype]
	return octets, used
}

// Entry is a key with what it is for.
type Entry struct {
	// Principal is service/host@REALM.
	Principal string
	// KVNO is the version of the key.
	KVNO uint32
	// Short tells that only the last octet of the version is there.
	Short bool
	// EType is the number of the encryption type.
	EType int32
	// Made is when the key was put into the file, as whoever did it says.
	Made time.Time
	// Key is the key; none where the encryption type is not used.
	Key secret.Bytes
}

// Usable tells whether the key is of an encryption type that is used.
func (e Entry) Usable() bool { return e.Key.Len() > 0 }

// Parse reads a keytab file of MIT's format. Keys of encryption types that are not used are
// left out, their entries are not. The error names the record and what is wrong with it, and
// holds nothing of it.
func Parse(file []byte) ([]Entry, error) {
	entries, err := parse(file)
	if err != nil {
		wipe(entries)
		return nil, err
	}
	return entries, nil
}

// parse returns, with an error, what it has read until there.
func parse(file []byte) (entries []Entry, err error) {
	in := cryptobyte.String(file)
	var v uint16
	switch {
	case !in.ReadUint16(&v) || v>>8 != version>>8:
		return nil, errors.New("the file is not a keytab: it does not begin with 05")
	case v != version:
		return nil, fmt.Errorf("the keytab is of version %d: write it anew with a Kerberos of this century", v&0xff)
	}
	for record := 1; !in.Empty(); record++ {
		var size uint32
		var body []byte
		if !in.ReadUint32(&size) {
			return entries, fmt.Errorf("record %d is cut off", record)
		}
		if size == 0 {
			break // MIT's library takes that for the end
		}
		hole := size > math.MaxInt32 // a negative number is the room that a removed entry left
		if hole {
			size = -size
		}
		switch {
		case size > uint32(len(in)) || !in.ReadBytes(&body, int(size)):
			return entries, fmt.Errorf("record %d is cut off", record)
		case hole:
			continue
		case len(entries) == maxEntries:
			return entries, fmt.Errorf("the keytab has more than %d keys", maxEntries)
		}
		e, err := readEntry(body)
		if err != nil {
			return entries, fmt.Errorf("record %d: %w", record, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// readEntry reads a record: realm, components, type of name, time, version, key, and, where
// there is room, the version again in 32 bits.
func readEntry(in cryptobyte.String) (e Entry, err error) {
	var count uint16
	var realm cryptobyte.String
	if !in.ReadUint16(&count) || !in.ReadUint16LengthPrefixed(&realm) {
		return e, errors.New("the principal is cut off")
	}
	if count == 0 || count > maxComponents {
		return e, fmt.Errorf("the principal has %d components: 1 to %d are possible", count, maxComponents)
	}
	components := make([]string, count)
	for i := range components {
		var component cryptobyte.String
		if !in.ReadUint16LengthPrefixed(&component) {
			return e, errors.New("the principal is cut off")
		}
		components[i] = string(component)
	}
	e.Principal = strings.Join(components, "/") + "@" + string(realm)
	var nameType, made uint32
	var short uint8
	var kind uint16
	var key cryptobyte.String
	if !in.ReadUint32(&nameType) || !in.ReadUint32(&made) || !in.ReadUint8(&short) || !in.ReadUint16(&kind) || !in.ReadUint16LengthPrefixed(&key) {
		return e, errors.New("the key is cut off")
	}
	e.Made, e.EType = time.Unix(int64(made), 0).UTC(), int32(int16(kind))
	e.KVNO, e.Short = uint32(short), true
	if long := uint32(0); in.ReadUint32(&long) && long != 0 {
		e.KVNO, e.Short = long, false
	}
	size, used := keySizes[e.EType]
	if used && len(key) != size {
		return e, fmt.Errorf("the key has %d octets: encryption type %d wants %d", len(key), e.EType, size)
	}
	if used {
		e.Key = secret.New(append([]byte(nil), key...))
	}
	return e, nil
}

// Name returns the name of an encryption type (RFC 3962, RFC 8009 and older ones).
func Name(etype int32) string {
	names := map[int32]string{
		1: "des-cbc-crc", 3: "des-cbc-md5", 16: "des3-cbc-sha1", 23: "arcfour-hmac",
		17: "aes128-cts-hmac-sha1-96", 18: "aes256-cts-hmac-sha1-96",
		19: "aes128-cts-hmac-sha256-128", 20: "aes256-cts-hmac-sha384-192",
		25: "camellia128-cts-cmac", 26: "camellia256-cts-cmac",
	}
	if name, known := names[etype]; known {
		return name
	}
	return fmt.Sprintf("encryption type %d", etype)
}

package ipatest

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// maxMessage is how long a request may be, nsslapd-maxbersize of 389-ds.
const maxMessage = 2 << 20

// The tags of operations (RFC 4511 section 4.2 and on); an answer's is the request's plus one
// where not named.
const (
	opBind         ber.Tag = 0
	opUnbind       ber.Tag = 2
	opSearch       ber.Tag = 3
	opSearchEntry  ber.Tag = 4
	opSearchDone   ber.Tag = 5
	opModify       ber.Tag = 6
	opAdd          ber.Tag = 8
	opDelete       ber.Tag = 10
	opModifyDN     ber.Tag = 12
	opCompare      ber.Tag = 14
	opAbandon      ber.Tag = 16
	opExtended     ber.Tag = 23
	opExtendedDone ber.Tag = 24
)

var errMessage = errors.New("LDAP message is malformed")

// control is a control of a request.
type control struct {
	oid      string
	critical bool
}

// message is a request.
type message struct {
	id       int64
	op       *ber.Packet
	controls []control
}

// readMessage reads the octets of one message.
func readMessage(r *bufio.Reader) ([]byte, error) {
	var header [6]byte
	if _, err := io.ReadFull(r, header[:2]); err != nil {
		return nil, fmt.Errorf("reading a message: %w", err)
	}
	n, length := 2, int(header[1])
	if more := length - 0x80; more >= 0 {
		if more == 0 || more > 4 {
			return nil, errMessage
		}
		if _, err := io.ReadFull(r, header[2:2+more]); err != nil {
			return nil, fmt.Errorf("reading a message: %w", err)
		}
		length = 0
		for _, b := range header[2 : 2+more] {
			length = length<<8 | int(b)
		}
		n += more
	}
	if header[0] != 0x30 || length > maxMessage {
		return nil, errMessage
	}
	data := make([]byte, n+length)
	copy(data, header[:n])
	if _, err := io.ReadFull(r, data[n:]); err != nil {
		return nil, fmt.Errorf("reading a message: %w", err)
	}
	return data, nil
}

// parseMessage turns octets into a request (RFC 4511 section 4.1.1).
func parseMessage(data []byte) (message, error) {
	p, err := ber.DecodePacketErr(data)
	if err != nil {
		return message{}, fmt.Errorf("decoding: %w", err)
	}
	if len(p.Children) < 2 || p.Children[1].ClassType != ber.ClassApplication {
		return message{}, errMessage
	}
	m := message{op: p.Children[1]}
	if m.id, err = integer(p.Children[0], ber.TagInteger); err != nil {
		return message{}, err
	}
	if len(p.Children) < 3 {
		return m, nil
	}
	if p.Children[2].ClassType != ber.ClassContext || p.Children[2].Tag != 0 {
		return message{}, errMessage
	}
	for _, c := range p.Children[2].Children {
		if len(c.Children) == 0 {
			return message{}, errMessage
		}
		one := control{oid: text(c.Children[0])}
		if len(c.Children) > 1 && c.Children[1].Tag == ber.TagBoolean {
			one.critical = len(text(c.Children[1])) == 1 && text(c.Children[1]) != "\x00"
		}
		m.controls = append(m.controls, one)
	}
	return m, nil
}

// text returns the octets of a packet as a string.
func text(p *ber.Packet) string { return p.Data.String() }

// integer returns a number.
func integer(p *ber.Packet, tag ber.Tag) (int64, error) {
	if n, ok := p.Value.(int64); ok && p.ClassType == ber.ClassUniversal && p.Tag == tag {
		return n, nil
	}
	return 0, errMessage
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func tagged(tag ber.Tag, s string) *ber.Packet {
	return ber.NewString(ber.ClassContext, ber.TypePrimitive, tag, s, "")
}

// answer makes the answer to an operation (RFC 4511 section 4.1.9).
func answer(tag ber.Tag, r result, more ...*ber.Packet) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(r.code), ""))
	p.AppendChild(octets(""))
	p.AppendChild(octets(r.text))
	for _, child := range more {
		p.AppendChild(child)
	}
	return p
}

// envelope puts an answer, and controls, into a message.
func (m message) envelope(op *ber.Packet, controls ...*ber.Packet) []byte {
	p := ber.NewSequence("")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, m.id, ""))
	p.AppendChild(op)
	if len(controls) != 0 {
		all := ber.Encode(ber.ClassContext, ber.TypeConstructed, 0, nil, "")
		for _, c := range controls {
			all.AppendChild(c)
		}
		p.AppendChild(all)
	}
	return p.Bytes()
}

// asks tells whether a request has a control.
func (m message) asks(oid string) bool {
	for _, c := range m.controls {
		if c.oid == oid {
			return true
		}
	}
	return false
}

// refuses tells whether a request has a critical control that is not known for its operation
// (RFC 4511 section 4.1.11).
func (m message) refuses() bool {
	for _, c := range m.controls {
		if c.critical && c.oid != controlManageDsaIT && (c.oid != controlOTP || m.op.Tag != opBind) {
			return true
		}
	}
	return false
}

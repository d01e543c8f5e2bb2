package strict_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	assertionv1 "github.com/estuary-pki/estuary/proto/estuary/assertion/v1"
	signerv1 "github.com/estuary-pki/estuary/proto/estuary/signer/v1"
	"github.com/estuary-pki/estuary/services/strict"
)

func spoiled[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01}) // field 127, varint 1
	return m
}

func TestUnknownIsFoundEverywhere(t *testing.T) {
	bad := map[string]proto.Message{
		"top":     spoiled(&signerv1.IssueRequest{}),
		"message": &signerv1.IssueRequest{Assertion: spoiled(&assertionv1.SealedAssertion{})},
		"list": &signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{
			{Serial: "1"}, spoiled(&signerv1.Entry{}), {Serial: "2"},
		}},
		"in list": &signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{{CreatedAt: spoiled(&timestamppb.Timestamp{})}}},
		"map":     &structpb.Struct{Fields: map[string]*structpb.Value{"a": spoiled(structpb.NewBoolValue(true)), "b": structpb.NewNullValue()}},
		"oneof": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{
			structpb.NewStructValue(spoiled(&structpb.Struct{})),
		}}),
	}
	for name, m := range bad {
		// As it would arrive.
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(wire, got); err != nil {
			t.Fatal(err)
		}
		if strict.Unknown(got.ProtoReflect()) == "" {
			t.Errorf("%s: not found", name)
		}
	}
	good := &signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{{Serial: "1", CreatedAt: timestamppb.Now()}}, NextPageToken: "x"}
	if name := strict.Unknown(good.ProtoReflect()); name != "" {
		t.Errorf("unknown fields found in %s", name)
	}
}

// What is found has to be what protobuf itself would drop.
func FuzzUnknown(f *testing.F) {
	for _, m := range []proto.Message{
		&signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{{Serial: "1", CreatedAt: timestamppb.Now()}}},
		&signerv1.ListCertificatesResponse{Entries: []*signerv1.Entry{spoiled(&signerv1.Entry{Serial: "2"})}},
		spoiled(&signerv1.ListCertificatesResponse{NextPageToken: "x"}),
	} {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var full, dropped signerv1.ListCertificatesResponse
		if proto.Unmarshal(wire, &full) != nil {
			return
		}
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(wire, &dropped); err != nil {
			t.Fatal(err)
		}
		if found := strict.Unknown(full.ProtoReflect()) != ""; found == proto.Equal(&full, &dropped) {
			t.Errorf("unknown fields found: %t", found)
		}
	})
}

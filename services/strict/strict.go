// Package strict holds the check that a message has no field that this version does not know.
//
// The mesh makes it of every message, and package assertion of what was signed: what cannot
// be understood cannot be authorised.
package strict

import "google.golang.org/protobuf/reflect/protoreflect"

// Unknown returns the name of the first message in m that has unknown fields, or "".
func Unknown(m protoreflect.Message) (found protoreflect.FullName) {
	if len(m.GetUnknown()) > 0 {
		return m.Descriptor().FullName()
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					found = Unknown(v.Message())
					return found == ""
				})
			}
		case f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && found == ""; i++ {
				found = Unknown(v.List().Get(i).Message())
			}
		default:
			found = Unknown(v.Message())
		}
		return found == ""
	})
	return found
}

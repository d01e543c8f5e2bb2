package admin

import "reflect"

// DecodeObject reads a JSON body.
var DecodeObject = decodeObject

// Route is a method at a path, with the scope that it takes.
type Route struct{ Path, Method, Scope string }

// Routes is every method at every path.
func Routes() (all []Route) {
	for _, r := range new(Server).table() {
		for method, a := range r.methods {
			all = append(all, Route{r.path, method, string(a.scope)})
		}
	}
	return all
}

// Schemas are the types of answers, by their name in the description.
var Schemas = map[string]reflect.Type{
	"Health": reflect.TypeFor[health](), "NewToken": reflect.TypeFor[newToken](), "Token": reflect.TypeFor[token](),
	"TokenList": reflect.TypeFor[tokenList](), "Certificate": reflect.TypeFor[certificate](), "CertificateList": reflect.TypeFor[certificateList](),
}

// Reasons are the words for revocations.
var Reasons = reasons

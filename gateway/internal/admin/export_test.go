package admin

// DecodeObject reads a JSON body.
var DecodeObject = decodeObject

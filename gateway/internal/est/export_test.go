package est

// ParsePath is parsePath.
var ParsePath = parsePath

package accept

// ServerEndPoint is serverEndPoint.
var ServerEndPoint = serverEndPoint

// NetworkOf is networkOf.
var NetworkOf = networkOf

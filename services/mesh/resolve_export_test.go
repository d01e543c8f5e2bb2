package mesh

import (
	"context"

	"google.golang.org/grpc/resolver"
)

// ResolveEvery is how long a resolved name is good at least.
const ResolveEvery = resolveEvery

// Resolve begins to resolve targets for cc.
func Resolve(targets []string, lookup func(context.Context, string) ([]string, error), cc resolver.ClientConn) (resolver.Resolver, error) {
	return (&builder{targets: targets, lookup: lookup}).Build(resolver.Target{}, cc, resolver.BuildOptions{})
}

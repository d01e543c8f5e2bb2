package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

const (
	// scheme marks the targets of Dial; no other client of this process knows it.
	scheme = "mesh"
	// lookupTime bounds the resolution of one name.
	lookupTime = 5 * time.Second
	// resolveEvery is how long a resolved name is good at least, however often connections
	// fail.
	resolveEvery = 30 * time.Second
	// firstRetry is how long after a failure names are resolved again. It doubles with every
	// further one, up to resolveEvery.
	firstRetry = time.Second
)

// Targets returns the elements of a comma-separated list of "host:port", without the spaces
// around them. A host is an IP address, version 6 in brackets, or a name. The error names the
// element that is none, or stands there twice.
func Targets(list string) ([]string, error) {
	var targets []string
	for element := range strings.SplitSeq(list, ",") {
		target := strings.TrimSpace(element)
		host, port, err := net.SplitHostPort(target)
		if err != nil || !validHost(host) {
			return nil, fmt.Errorf("%q is not of the form host:port", target)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%q has no port between 1 and 65535", target)
		}
		if slices.ContainsFunc(targets, func(other string) bool { return strings.EqualFold(other, target) }) {
			return nil, fmt.Errorf("%q stands there twice", target)
		}
		targets = append(targets, target)
	}
	return targets, nil
}

func validHost(host string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	return literal(host) || host != "" && strings.Trim(host, allowed) == ""
}

func literal(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// split returns the parts of an element that Targets returned.
func split(target string) (host, port string) {
	host, port, _ = net.SplitHostPort(target)
	return host, port
}

// builder makes the resolver of one connection. gRPC's own takes a single name.
type builder struct {
	targets []string // as Targets returned them
	lookup  func(ctx context.Context, host string) ([]string, error)
}

// Scheme implements resolver.Builder.
func (b *builder) Scheme() string { return scheme }

// target returns what gRPC calls the connection.
func (b *builder) target() string {
	// The zone of an address is the only thing that could not stand in a URL.
	return scheme + ":///" + strings.ReplaceAll(strings.Join(b.targets, ","), "%", "%25")
}

// Build implements resolver.Builder.
func (b *builder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, stop := context.WithCancel(context.Background())
	r := &names{builder: b, cc: cc, stop: stop, asked: make(chan struct{}, 1), known: map[string][]string{}}
	for _, target := range b.targets {
		if host, _ := split(target); literal(host) {
			r.known[target] = []string{target}
		} else {
			r.named = append(r.named, target)
		}
	}
	r.running.Go(func() { r.run(ctx) })
	return r, nil
}

// names is the resolver of one connection: the addresses of all its hosts.
type names struct {
	*builder
	cc      resolver.ClientConn
	asked   chan struct{} // holds one element when gRPC has asked to resolve again
	stop    context.CancelFunc
	running sync.WaitGroup

	named []string // the targets that have to be looked up

	// The goroutine that runs alone has these.
	known     map[string][]string // the last addresses of each target
	published []string            // what gRPC knows
}

// ResolveNow implements resolver.Resolver: gRPC asks when a connection fails.
func (r *names) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (r *names) Close() {
	r.stop()
	r.running.Wait()
}

// run resolves at once, whenever gRPC asks, and after a failure without being asked, until
// ctx ends.
func (r *names) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		wait := resolveEvery
		if err := r.resolve(ctx); err != nil {
			wait, retry = retry, min(2*retry, resolveEvery)
			r.ask() // by itself
		} else {
			retry = firstRetry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		select {
		case <-r.asked:
		case <-ctx.Done():
		}
	}
}

func (r *names) ask() { r.ResolveNow(resolver.ResolveNowOptions{}) }

// answer is what became of one target.
type answer struct {
	target    string
	addresses []string
	err       error
}

// resolve looks all names up at once and passes each answer on as it comes, so that a slow
// name server holds up no other host. A host that cannot be resolved keeps the addresses that
// it had; the error is of all such hosts, and gRPC hears of it when there is no address at all.
func (r *names) resolve(ctx context.Context) error {
	answers := make(chan answer, len(r.named))
	for _, target := range r.named {
		go func() { answers <- r.find(ctx, target) }() // ends with ctx, or after lookupTime
	}
	err := r.publish() // what needs no looking up
	for range r.named {
		a := <-answers
		if a.err != nil {
			err = errors.Join(err, a.err)
			continue
		}
		r.known[a.target] = a.addresses
		err = errors.Join(err, r.publish())
	}
	if len(r.known) == 0 && ctx.Err() == nil {
		r.cc.ReportError(err)
	}
	return err
}

// find returns the addresses of a target, sorted.
func (r *names) find(ctx context.Context, target string) answer {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	host, port := split(target)
	found, err := r.lookup(ctx, host)
	if err == nil && len(found) == 0 {
		err = errors.New("there is no address")
	}
	if err != nil {
		return answer{target: target, err: fmt.Errorf("resolving %s: %w", target, err)}
	}
	addresses := make([]string, 0, len(found))
	for _, address := range found {
		addresses = append(addresses, net.JoinHostPort(address, port))
	}
	slices.Sort(addresses)
	return answer{target: target, addresses: addresses}
}

// publish tells gRPC the addresses of all targets, each once, when they have changed.
func (r *names) publish() error {
	var all []string
	var state resolver.State
	for _, target := range r.targets {
		for _, address := range r.known[target] {
			if !slices.Contains(all, address) {
				all = append(all, address)
				state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
			}
		}
	}
	if slices.Equal(all, r.published) {
		return nil
	}
	if err := r.cc.UpdateState(state); err != nil {
		return fmt.Errorf("using the addresses %s: %w", strings.Join(all, ", "), err)
	}
	r.published = all
	return nil
}

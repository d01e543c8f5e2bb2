module github.com/estuary-pki/estuary/proto

go 1.26.0

replace github.com/estuary-pki/estuary/services => ../services

replace github.com/estuary-pki/estuary/gateway => ../gateway

replace github.com/estuary-pki/estuary/validator => ../validator

replace github.com/estuary-pki/estuary/signer => ../signer

replace github.com/estuary-pki/estuary/deploy/systest => ../deploy/systest

require (
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)

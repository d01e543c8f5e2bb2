module github.com/estuary-pki/estuary/deploy/systest

go 1.26.0


replace github.com/estuary-pki/estuary/proto => ../../proto
replace github.com/estuary-pki/estuary/services => ../../services
replace github.com/estuary-pki/estuary/gateway => ../../gateway
replace github.com/estuary-pki/estuary/validator => ../../validator
replace github.com/estuary-pki/estuary/signer => ../../signer

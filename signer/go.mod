module github.com/estuary-pki/estuary/signer

go 1.26.0

require github.com/estuary-pki/estuary/proto v0.0.0-00010101000000-000000000000

require github.com/estuary-pki/estuary/services v0.0.0-00010101000000-000000000000

require (
	github.com/pelletier/go-toml v1.9.5 // indirect
	github.com/weppos/publicsuffix-go v0.40.3-0.20250127173806-e489a31678ca // indirect
	github.com/youmark/pkcs8 v0.0.0-20240726163527-a2c0da244d78 // indirect
	github.com/zmap/zcrypto v0.0.0-20250129210703-03c45d0bae98 // indirect
	github.com/zmap/zlint/v3 v3.6.6 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/estuary-pki/estuary/proto => ../proto

replace github.com/estuary-pki/estuary/services => ../services

replace github.com/estuary-pki/estuary/gateway => ../gateway

replace github.com/estuary-pki/estuary/validator => ../validator

replace github.com/estuary-pki/estuary/deploy/systest => ../deploy/systest

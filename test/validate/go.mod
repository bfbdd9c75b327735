module github.com/mycarerecord/mycarerecord/test/validate

go 1.26.0

require (
	github.com/google/fhir/go v0.7.4
	github.com/mycarerecord/mycarerecord v0.0.0
	go.yaml.in/yaml/v3 v3.0.6
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	bitbucket.org/creachadair/stringset v0.0.9 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-jose/go-jose/v4 v4.1.8 // indirect
	github.com/golang/protobuf v1.5.4 // indirect
	github.com/json-iterator/go v1.1.12 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/modern-go/concurrent v0.0.0-20180228061459-e0a39a4cb421 // indirect
	github.com/modern-go/reflect2 v1.0.2 // indirect
	github.com/onsi/ginkgo v1.16.5 // indirect
	github.com/onsi/gomega v1.44.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/samply/golang-fhir-models/fhir-models v0.3.2 // indirect
	github.com/serenize/snaker v0.0.0-20201027110005-a7ad2135616e // indirect
	github.com/sony/gobreaker/v2 v2.4.0 // indirect
	github.com/tink-crypto/tink-go/v2 v2.4.0 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/metric v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260928230214-8a89bd6388cc // indirect
)

// What google/fhir v0.7.4 requires and no package of it needs: vitess brings in the module graph of a database, and the old genproto holds
// packages that stand in genproto/googleapis/rpc today, which is ambiguous. reflect2 before v1.0.2 does not work with Go 1.18 or later.
exclude (
	google.golang.org/genproto v0.0.0-20200526211855-cb27e3aa2013
	vitess.io/vitess v0.7.0
)

replace github.com/mycarerecord/mycarerecord => ../..

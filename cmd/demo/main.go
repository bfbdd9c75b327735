// Command demo is a whole neighbourhood in one process, on this machine alone: nine invented custodians, a demographics service, a token
// issuer, and the same daemon that cmd/broker runs. Nobody in it is real.
//
//	demo                      invented people (test/cohort)
//	demo -synthea DIR         whole-patient bundles of the Synthea generator, split over the custodians; a manifest is written to -state
//	demo -cohort DIR          DIR/<custodian key>/*.json or .json.gz, one collection Bundle per person
//	demo -protocols own       practices speak GP Connect, the hospital lets in by token (SMART), councils have APIs of their own; among the invented people,
//	                          a second practice, a hospital that speaks HL7 v2 and a second council are there, too. Without it all speak FHIR R4
//
// Exit codes: 0 stopped by a signal, 1 failed, 2 wrong use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// ownProtocols is the value of -protocols with which custodians speak what such organisations speak.
const ownProtocols = "own"

// options are the flags.
type options struct {
	rest, grpc, ops, issuer, sources string // host:port; port 0 is any free one
	cohort, synthea                  string // folders; "" for the invented people
	state                            string // folder of ledger, keys and configuration; "" for one that is removed at the end
	readyFile                        string // written when all is up; "" for none
	protocols                        string // what custodians speak
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.rest, "rest", "127.0.0.1:8080", "FHIR gateway, `host:port`; port 0 here and below is any free one")
	flags.StringVar(&o.grpc, "grpc", "127.0.0.1:9090", "gRPC services, `host:port`")
	flags.StringVar(&o.ops, "ops", "127.0.0.1:9100", "operations: /livez /readyz /metrics, `host:port`")
	flags.StringVar(&o.issuer, "issuer", "127.0.0.1:8090", "token issuer, `host:port`")
	flags.StringVar(&o.sources, "sources", "127.0.0.1:8100", "first custodian, `host:port`; the others and the demographics service take the ports after it")
	flags.StringVar(&o.cohort, "cohort", "", "`folder` with <custodian key>/*.json or .json.gz, one collection Bundle per person, instead of the invented people")
	flags.StringVar(&o.synthea, "synthea", "", "`folder` with whole-patient bundles (.json or .json.gz) to split over the custodians, instead of the invented people")
	flags.StringVar(&o.state, "state", "", "`folder` for ledger, keys and configuration; kept, and used again next time (default: a temporary one, removed at the end)")
	flags.StringVar(&o.protocols, "protocols", "fhir", "what custodians speak: fhir, FHIR R4 all of them, or own, what such organisations speak; what a protocol cannot carry is counted on the screen")
	flags.StringVar(&o.readyFile, "ready-file", "", "`file` to write where everything is, as JSON, when all is up")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintf(errs, "demo: %q is one word too many; demo -help lists the flags\n", flags.Arg(0))
		return 2
	case o.protocols != "fhir" && o.protocols != ownProtocols:
		fmt.Fprintln(errs, "demo: -protocols: fhir or own")
		return 2
	case o.cohort != "" && o.synthea != "":
		fmt.Fprintln(errs, "demo: give -cohort or -synthea, not both: each replaces the invented people")
		return 2
	}
	if err := o.show(ctx, out, errs); err != nil {
		fmt.Fprintln(errs, "demo:", err)
		return 1
	}
	return 0
}

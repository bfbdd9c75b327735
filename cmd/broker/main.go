// Command broker is My Care Record's daemon: it answers clinicians' systems over gRPC and FHIR REST from many custodians, live, read-only,
// with consent first and every access on record.
//
//	broker -config FILE                                        run
//	broker check -config FILE                                  explain what is wrong with a configuration, by line and key
//	broker keys -dir DIR                                       make the key files of a new ledger
//	broker keys add -dir DIR -kind epoch|signing               make the next keys beside them; a running broker takes them up on SIGHUP
//	broker keys public -config FILE                            print the keys by which others check the ledger's checkpoints
//	broker ledger export -config FILE -out FILE [-clear] -by USER -reason TEXT   write the whole ledger for `verify export`
//	broker ledger archive -config FILE -epoch N -out FILE [-again] -by USER -reason TEXT   write a closed key epoch for `verify archive` and `mcr audit search -archive`
//	broker ledger erase -config FILE -basis B -reference R [-before DATE] [-nhs-number-file FILE] -by USER -reason TEXT   erase payloads
//	broker ledger continue -config FILE -from FILE [-adopt]    begin a new ledger after one that is damaged
//	broker source check -config FILE -custodian ODS [-source NAME] [-nhs-number N | -nhs-number-file FILE] [-o json]   ask one custodian, with a test
//	                                                           person or without, and report every rule, what was seen, and what to do
//	broker policy explain -config FILE [-job-role R -org ODS]  say what a role may see, or what the custodians allow
//	broker staff list -config FILE -kind staff|watched -from CSV -out FILE   make the list of keyed hashes that worklist.staff or worklist.watched names
//	broker sections explain -config FILE -type T -kind K       say which section rules are followed for a resource type from a kind of custodian
//
// Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration.
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

	"github.com/mycarerecord/mycarerecord/cmd/internal/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `usage:
  broker -config FILE
  broker check -config FILE
  broker keys -dir DIR
  broker keys add -dir DIR -kind epoch|signing
  broker keys public -config FILE
  broker ledger export -config FILE -out FILE [-clear] -by USER -reason TEXT
  broker ledger archive -config FILE -epoch N -out FILE [-again] -by USER -reason TEXT
  broker ledger erase -config FILE -basis retention|erasure|order -reference TEXT [-before DATE] [-nhs-number-file FILE] -by USER -reason TEXT
  broker ledger continue -config FILE -from FILE [-adopt]
  broker source check -config FILE -custodian KEY|ODS [-source NAME] [-nhs-number N | -nhs-number-file FILE] [-o json]
  broker policy explain -config FILE [-job-role CODE -org ODS]
  broker staff list -config FILE -kind staff|watched -from CSV -out FILE
  broker sections explain -config FILE -type TYPE -kind KIND
`

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	command := ""
	for len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		command += args[0] + " "
		args = args[1:]
	}
	flags := flag.NewFlagSet("broker", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() { fmt.Fprint(errs, usage) }
	config := flags.String("config", "", "configuration file")
	dir := flags.String("dir", "", "folder for key files")
	kind := flags.String("kind", "", "which keys to add: epoch or signing; or which list: staff or watched; or a kind of custodian")
	typ := flags.String("type", "", "resource type of FHIR R4")
	file := flags.String("out", "", "file to write")
	clear := flags.Bool("clear", false, "write what entries say in clear: for an auditor who gets no keys")
	epoch := flags.Uint("epoch", 0, "number of a key epoch that is closed: the next has begun")
	again := flags.Bool("again", false, "write over the archive of the same epoch: after something in it was erased")
	by := flags.String("by", "", "who does it; recorded")
	reason := flags.String("reason", "", "why; recorded")
	basis := flags.String("basis", "", "legal basis: retention, erasure or order")
	reference := flags.String("reference", "", "the decision or the line of the schedule; no person's name")
	before := flags.String("before", "", "date: what was recorded before it")
	from := flags.String("from", "", "file of the ledger that ended; or the CSV file of a list, - for standard input")
	adopt := flags.Bool("adopt", false, "start although no checkpoint of the ledger is where they are kept, or continue an older file than they tell of: only if you know why")
	begin := flags.Bool("begin", false, "begin a new ledger although the folder of keys is read-only: for the very first start alone")
	custodian := flags.String("custodian", "", "key or ODS code of one custodian")
	source := flags.String("source", "", "name of one of its sources; all if it is left out")
	number := flags.String("nhs-number", "", "NHS number of a test person, 999 000 0000 up")
	output := flags.String("o", "text", "text or json")
	numberFile := flags.String("nhs-number-file", "", "file that holds the NHS number of a test person, or - for standard input: a number on a command line would show in the list of processes")
	jobRole := flags.String("job-role", "", "job role code")
	org := flags.String("org", "", "ODS code of the requester's organisation")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(errs, "broker: %q is one word too many\n%s", flags.Arg(0), usage)
		return 2
	}
	if command == "keys " || command == "keys add " {
		if *dir == "" {
			fmt.Fprint(errs, "broker keys: -dir is missing: name the folder of keys\n")
			return 2
		}
		if command == "keys " {
			return report(errs, daemon.CreateKeys(*dir))
		}
		if *kind != "epoch" && *kind != "signing" {
			fmt.Fprint(errs, "broker keys add: -kind is epoch or signing\n")
			return 2
		}
		return report(errs, daemon.AddKeys(*dir, *kind, out))
	}
	if *config == "" {
		fmt.Fprint(errs, "broker: -config is missing: name the configuration file\n"+usage)
		return 2
	}
	cfg, err := daemon.Load(*config)
	if err != nil {
		fmt.Fprintln(errs, err)
		return 2
	}
	if command == "" || command == "check " { // what cannot be right must not open a ledger first
		if err := daemon.Check(cfg); err != nil {
			fmt.Fprintf(errs, "%s: %v\n", *config, err)
			return 2
		}
	}
	switch command {
	case "":
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		return report(errs, daemon.Run(ctx, cfg, daemon.Options{Log: errs, Adopt: *adopt, Begin: *begin, Reload: hangups}))
	case "check ":
		fmt.Fprintf(out, "%s: good. %d custodians, %d issuers; configuration %.12s\n", *config, len(cfg.Custodians), len(cfg.Issuers), cfg.Hash())
		return 0
	case "ledger export ":
		return report(errs, daemon.LedgerExport(ctx, cfg, *file, *clear, daemon.Operator{User: *by, Reason: *reason}, out))
	case "ledger archive ":
		return report(errs, daemon.LedgerArchive(ctx, cfg, *epoch, *file, *again, daemon.Operator{User: *by, Reason: *reason}, out))
	case "ledger erase ":
		return report(errs, daemon.LedgerErase(ctx, cfg, *basis, *reference, *before, *numberFile, daemon.Operator{User: *by, Reason: *reason}, out))
	case "ledger continue ":
		return report(errs, daemon.LedgerContinue(ctx, cfg, *from, *adopt, out))
	case "keys public ":
		return report(errs, daemon.PublicKeys(cfg, out))
	case "source check ":
		if *output != "text" && *output != "json" {
			fmt.Fprintln(errs, "broker: -o: text or json")
			return 2
		}
		return report(errs, daemon.SourceCheck(ctx, cfg, daemon.SourceQuestion{Custodian: *custodian, Source: *source, Number: *number, NumberFile: *numberFile, JSON: *output == "json"}, out))
	case "policy explain ":
		return report(errs, daemon.PolicyExplain(cfg, *jobRole, *org, out))
	case "staff list ":
		return report(errs, daemon.StaffList(cfg, *kind, *from, *file, out))
	case "sections explain ":
		return report(errs, daemon.SectionsExplain(cfg, *typ, *kind, out))
	}
	fmt.Fprintf(errs, "broker: there is no command %q\n%s", command, usage)
	return 2
}

func report(errs io.Writer, err error) int {
	if err != nil {
		fmt.Fprintln(errs, "broker:", err)
		if errors.Is(err, daemon.ErrUse) {
			return 2
		}
		return 1
	}
	return 0
}

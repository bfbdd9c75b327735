// Command mcr asks My Care Record from a terminal, over gRPC: it signs in, reads a record as a timeline, records and shows objections,
// and searches the ledger. It knows nothing of the broker but its interface definition.
//
//	mcr login -as PERSONA | -token-file FILE      sign in, with the demo's issuer or with a token of your own
//	mcr logout                                    forget the token
//	mcr record get NHSNUMBER [flags]              a record in one answer
//	mcr record stream NHSNUMBER [flags]           a record custodian by custodian, with progress; for large ones
//	mcr consent object NHSNUMBER [flags]          record an objection
//	mcr consent withdraw NHSNUMBER [flags]        end one
//	mcr consent show NHSNUMBER [flags]            list them, what each does, and which systems have adopted it
//	mcr consent history NHSNUMBER [flags]         list all that they have been
//	mcr consent decide NHSNUMBER [flags]          put one that was requested in force, or decline it
//	mcr consent delegate CARER [flags]            let a carer see your own record: their NHS number
//	mcr consent carers NHSNUMBER [flags]          list whom a person lets see their record
//	mcr consent revoke NHSNUMBER [flags]          end what a carer may see
//	mcr consent import FILE [flags]               bring a whole list in, or check it with -dry-run
//	mcr consent export FILE [flags]               write everybody's, as a list that can be imported again
//	mcr audit who NHSNUMBER [flags]               who looked at this person
//	mcr audit user USER [flags]                   what this user looked at
//	mcr audit staff ODS [flags]                   what this organisation's staff looked at
//	mcr audit records ODS [flags]                 which of this organisation's records were looked at
//	mcr audit refusals|glass|changes|asked        what was refused; where the glass was broken; whose choices changed; who asked these questions
//	mcr audit view ENTRY [flags]                  what was shown in one view
//	mcr audit foresee NHSNUMBER [flags]           what somebody would be shown now
//	mcr audit receipt RECEIPT [flags]             whether a receipt is true
//	mcr audit report -for-patient NHSNUMBER       who looked, in plain words for the person: a page, a PDF and data
//	mcr audit search [flags]                      entries of the ledger one by one
//	mcr audit overrides [flags]                   uses of break-glass that nobody has reviewed
//	mcr audit review POSITION [flags]             say what became of one
//	mcr audit worklist list [flags]               accesses that rules have found, and somebody must look at
//	mcr audit worklist show POSITION [flags]      one of them, with what was found
//	mcr audit worklist take POSITION [flags]      look into one
//	mcr audit worklist close POSITION [flags]     say what became of it
//	mcr audit worklist reopen POSITION [flags]    put it back
//	mcr audit report -organisation [flags]        what happened in a week, as a page and as a table
//	mcr custodians                                who is configured, and who has been in trouble
//
// `mcr COMMAND -help` lists a command's flags; one dash or two, before or after the number. For NHSNUMBER, spaces are allowed, and `-`
// reads it from standard input, so that it stands in no list of processes and no shell history.
//
// Exit codes: 0 done. 1 a fault, here or there; a broken stream. 2 wrong use, or a field that cannot be read. 3 not signed in. 4 refused.
// 5 nothing to show. 6 try again later. 7 too large for one answer: stream it. 8 with -whole: answered, but some custodian's part is missing.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitDone = iota
	exitFault
	exitUse
	exitSignIn
	exitRefused
	exitNothing
	exitLater
	exitLarge
	exitNotWhole
)

// app is the world outside: what a test replaces.
type app struct {
	in         io.Reader
	out, err   io.Writer
	configDir  string // where the token is kept
	columns    int    // of the terminal
	colour     bool   // out is a terminal
	lively     bool   // err is a terminal: progress may rewrite its line
	now        func() time.Time
	randomness io.Reader
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: time.Now, randomness: rand.Reader, columns: columns(os.Stdout), lively: isTerminal(os.Stderr),
		colour: isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if dir, err := os.UserConfigDir(); err == nil {
		a.configDir = filepath.Join(dir, "mcr")
	}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// command is one of mcr's.
type command struct {
	name string // words, with spaces
	args string // what follows, for the help
	does string
	run  func(a *app, ctx context.Context, c *call) error
}

var commands = []command{
	{"login", "-as PERSONA | -token-file FILE", "sign in", (*app).login},
	{"logout", "", "forget the token", (*app).logout},
	{"record get", "NHSNUMBER", "a record in one answer, as a timeline", (*app).recordGet},
	{"record stream", "NHSNUMBER", "a record custodian by custodian, with progress; for large ones", (*app).recordStream},
	{"consent object", "NHSNUMBER", "record an objection", (*app).consentObject},
	{"consent withdraw", "NHSNUMBER", "end an objection", (*app).consentWithdraw},
	{"consent show", "NHSNUMBER", "list a person's objections, what each does, and which systems have adopted it", (*app).consentShow},
	{"consent history", "NHSNUMBER", "list all that a person's objections have been", (*app).consentHistory},
	{"consent decide", "NHSNUMBER", "put an objection that was requested in force, or decline it", (*app).consentDecide},
	{"consent delegate", "CARER", "let a carer see your own record", (*app).consentDelegate},
	{"consent carers", "NHSNUMBER", "list whom a person lets see their record", (*app).consentCarers},
	{"consent revoke", "NHSNUMBER", "end what a carer may see", (*app).consentRevoke},
	{"consent import", "FILE", "bring a whole list of objections in, or check it", (*app).consentImport},
	{"consent export", "FILE", "write everybody's objections, as a list that can be imported again", (*app).consentExport},
	{"audit who", "NHSNUMBER", "who looked at this person", (*app).auditQuestion},
	{"audit user", "USER", "what this user looked at", (*app).auditQuestion},
	{"audit staff", "ODS", "what this organisation's staff looked at", (*app).auditQuestion},
	{"audit records", "ODS", "which of this organisation's records were looked at", (*app).auditQuestion},
	{"audit refusals", "", "what was refused, and why", (*app).auditQuestion},
	{"audit glass", "", "where the glass was broken, and what became of it", (*app).auditQuestion},
	{"audit changes", "", "which choices were recorded or changed, and by whom", (*app).auditQuestion},
	{"audit asked", "", "who asked these questions, or looked at people's choices", (*app).auditQuestion},
	{"audit view", "ENTRY", "what was shown in one view", (*app).auditView},
	{"audit foresee", "NHSNUMBER", "what somebody would be shown now, without asking for it", (*app).auditForesee},
	{"audit receipt", "RECEIPT", "whether a receipt is true", (*app).auditReceipt},
	{"audit search", "", "who looked at what, when and why", (*app).auditSearch},
	{"audit overrides", "", "uses of break-glass that nobody has reviewed", (*app).auditOverrides},
	{"audit review", "POSITION", "say what became of one", (*app).auditReview},
	{"audit worklist list", "", "accesses that rules have found, and somebody must look at", (*app).worklistList},
	{"audit worklist show", "POSITION", "one of them, with what was found", (*app).worklistShow},
	{"audit worklist take", "POSITION", "look into one", (*app).worklistTake},
	{"audit worklist close", "POSITION", "say what became of one", (*app).worklistClose},
	{"audit worklist reopen", "POSITION", "put one back on the worklist", (*app).worklistReopen},
	{"audit report", "-organisation | -for-patient NHSNUMBER", "what happened in a week; or who looked, in plain words for the person", (*app).reports},
	{"custodians", "", "who is configured, and who has been in trouble", (*app).custodians},
}

// call is one use of a command: its flags, and what stands beside them.
type call struct {
	flags *flag.FlagSet
	args  []string
}

// useError is wrong use: the text says what to do.
type useError string

// Error returns the text.
func (e useError) Error() string { return string(e) }

// parse reads flags wherever they stand, and checks how many other words there are.
func (c *call) parse(want int) error {
	if want == 0 {
		return c.words(0, "flags only")
	}
	return c.words(want, "an NHS number and flags")
}

// words is parse for what is no NHS number.
func (c *call) words(want int, what string) error {
	rest := c.args
	c.args = nil
	for {
		if err := c.flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return useError(err.Error() + " (mcr " + c.flags.Name() + " -help lists the flags)")
		}
		if rest = c.flags.Args(); len(rest) == 0 {
			break
		}
		// flag stops before the first word that is no flag; those behind it are flags all the same.
		c.args = append(c.args, rest[0])
		rest = rest[1:]
	}
	if len(c.args) != want {
		return useError("mcr " + c.flags.Name() + " takes " + what)
	}
	return nil
}

// run runs one command and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	for _, c := range commands {
		words := strings.Fields(c.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != c.name {
			continue
		}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		err := c.run(a, ctx, &call{flags: fs, args: args[len(words):]})
		if errors.Is(err, flag.ErrHelp) {
			a.say("mcr %s %s: %s\n\nFlags (one dash or two):\n", c.name, c.args, c.does)
			fs.SetOutput(a.out)
			fs.PrintDefaults()
			return exitDone
		}
		return a.report(ctx, err)
	}
	if in := within(args); in != nil {
		for _, word := range args[len(in):] {
			if isHelp(word) {
				a.helpOf(a.out, in)
				return exitDone
			}
		}
		a.tell("mcr: %s is not a command; these are those of mcr %s:\n\n", safe("mcr "+strings.Join(args[:min(len(args), len(in)+1)], " ")), strings.Join(in, " "))
		a.helpOf(a.err, in)
		return exitUse
	}
	if len(args) == 1 && isHelp(args[0]) {
		a.help(a.out)
		return exitDone
	}
	if len(args) > 0 {
		a.tell("mcr: %s is not a command\n\n", safe(args[0]))
	}
	a.help(a.err)
	return exitUse
}

func isHelp(word string) bool {
	return word == "help" || word == "-h" || word == "-help" || word == "--help"
}

// within returns the longest beginning of the words under which there are commands, but which is none itself.
func within(args []string) []string {
	for n := min(len(args), 2); n > 0; n-- {
		if slices.ContainsFunc(commands, func(c command) bool { return strings.HasPrefix(c.name, strings.Join(args[:n], " ")+" ") }) {
			return args[:n]
		}
	}
	return nil
}

// helpOf lists the commands that begin with some words.
func (a *app) helpOf(w io.Writer, in []string) {
	for _, c := range commands {
		if strings.HasPrefix(c.name, strings.Join(in, " ")+" ") {
			_, _ = fmt.Fprintf(w, "  mcr %-36s %s\n", strings.TrimSpace(c.name+" "+c.args), c.does)
		}
	}
	_, _ = fmt.Fprintln(w, "\n  mcr COMMAND -help lists a command's flags.")
}

func (a *app) help(w io.Writer) {
	_, _ = fmt.Fprintln(w, "mcr asks My Care Record from a terminal.")
	_, _ = fmt.Fprintln(w)
	for _, c := range commands {
		_, _ = fmt.Fprintf(w, "  mcr %-36s %s\n", strings.TrimSpace(c.name+" "+c.args), c.does)
	}
	_, _ = fmt.Fprintln(w, "\n  mcr COMMAND -help lists a command's flags. NHSNUMBER may be -, to read it from standard input.")
	_, _ = fmt.Fprintln(w, "\nExit codes: 0 done, 1 a fault, 2 wrong use, 3 not signed in, 4 refused, 5 nothing to show, 6 try again later,")
	_, _ = fmt.Fprintln(w, "7 too large for one answer, 8 with -whole: answered, but a custodian's part is missing.")
}

// say writes to the output. A reader who left is not our trouble.
func (a *app) say(format string, args ...any) { _, _ = fmt.Fprintf(a.out, format, args...) }

// tell writes to the error output.
func (a *app) tell(format string, args ...any) { _, _ = fmt.Fprintf(a.err, format, args...) }

// Command verify checks what a ledger of My Care Record says, without any of the program that wrote it: it imports nothing of the project and nothing but the standard
// library, and is written from the specifications that audit/ENTRY.md names. It asks nobody for anything: it reads files.
//
//	verify export FILE -key KEY [-keys DIR] [-checkpoint FILE] [-witness KEY] [-log FILE]
//	verify archive FILE -key KEY [-keys DIR] [-checkpoint FILE] [-witness KEY] [-export FILE]
//	verify receipt RECEIPT -key KEY (-export FILE | -archive FILE | -proof FILE) [-checkpoint FILE] [-witness KEY]
//	verify witness -dir DIR -name NAME -ledger KEY -listen HOST:PORT [-certificate FILE -certificate-key FILE]
//
// export checks a whole export: order and times, every leaf, the tree, every checkpoint. With the payload keys (or an export that was made with payloads in clear) it opens every
// payload, accounts for what was erased, and replays consent: each release against what the person had said before it. With custodians' logs of requests it finds
// those that no entry accounts for. archive checks an archive of one key epoch by itself: order and times, every leaf, the proof that the range is in the tree of a signed checkpoint, that
// the index is that of the entries, and what was signed of the whole; with an export of the living ledger, that the ledger continues it. receipt proves that the entry of a receipt stands in a ledger. witness is a small server that cosigns the checkpoints of other
// organisations' ledgers, and refuses one that does not continue what it cosigned before.
//
// Exit codes: 0 sound or proved, 1 not, 2 wrong use.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `usage:
  verify export FILE -key KEY [-key KEY …] [-keys DIR] [-checkpoint FILE] [-witness KEY] [-log FILE]
  verify archive FILE -key KEY [-key KEY …] [-keys DIR] [-checkpoint FILE] [-witness KEY] [-export FILE]
  verify receipt RECEIPT -key KEY (-export FILE | -archive FILE | -proof FILE) [-checkpoint FILE] [-witness KEY]
  verify witness -dir DIR -name NAME -ledger KEY -listen HOST:PORT [-certificate FILE -certificate-key FILE]
KEY is a verifier key: of a ledger as "broker keys public" prints it, of a witness as "verify witness" does. FILE may be - for standard input.
`

// many is a flag that may be given more than once.
type many []string

func (m *many) String() string     { return strings.Join(*m, " ") }
func (m *many) Set(s string) error { *m = append(*m, s); return nil }

type options struct {
	keys, witnesses, checkpoints, logs, ledgers many
	payloadKeys, export, archive, proof         string
	dir, name, listen, cert, tls                string
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	flags := flag.NewFlagSet("verify", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() { fmt.Fprint(errs, usage) }
	flags.Var(&o.keys, "key", "public key of the ledger; more than one may be given")
	flags.Var(&o.witnesses, "witness", "public key of a witness that must have cosigned")
	flags.Var(&o.checkpoints, "checkpoint", "file of checkpoints that were kept elsewhere: the export must continue them")
	flags.Var(&o.logs, "log", "a custodian's log of requests from the broker, one JSON object a line")
	flags.Var(&o.ledgers, "ledger", "public key of a ledger whose checkpoints are cosigned")
	flags.StringVar(&o.payloadKeys, "keys", "", "folder of the ledger's payload keys")
	flags.StringVar(&o.export, "export", "", "export in which the receipt's entry is looked for, or that must continue the archive")
	flags.StringVar(&o.archive, "archive", "", "archive in which the receipt's entry is looked for")
	flags.StringVar(&o.proof, "proof", "", "answer of ProveInclusion as JSON")
	flags.StringVar(&o.dir, "dir", "", "folder of the witness")
	flags.StringVar(&o.name, "name", "", "name of the witness, such as witness.example")
	flags.StringVar(&o.listen, "listen", "", "host:port")
	flags.StringVar(&o.cert, "certificate", "", "certificate of the server, PEM")
	flags.StringVar(&o.tls, "certificate-key", "", "its key, PEM")
	var words []string
	for rest := args; ; {
		for len(rest) > 0 && (rest[0] == "-" || !strings.HasPrefix(rest[0], "-")) {
			words, rest = append(words, rest[0]), rest[1:]
		}
		if err := flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return 0
			}
			return 2
		}
		if rest = flags.Args(); len(rest) == 0 {
			break
		}
	}
	wrong := func(what string) int {
		fmt.Fprintf(errs, "verify: %s\n%s", what, usage)
		return 2
	}
	if len(words) == 0 {
		return wrong("say what to check: export, archive, receipt or witness")
	}
	if words[0] == "witness" {
		return runWitness(ctx, &o, out, errs)
	}
	keys, err := parseKeys(o.keys)
	switch {
	case err != nil:
		return wrong(err.Error())
	case len(keys) == 0:
		return wrong("-key is missing: without a key that you trust nothing can be told")
	case len(words) != 2:
		return wrong("name one thing to check")
	}
	c, err := o.checker(keys)
	if err != nil {
		return wrong(err.Error())
	}
	switch words[0] {
	case "export":
		return runExport(words[1], c, o.logs, out, errs)
	case "archive":
		return runArchive(words[1], c, o.export, out, errs)
	case "receipt":
		return runReceipt(words[1], c, &o, out, errs)
	}
	return wrong(fmt.Sprintf("there is no command %q", words[0]))
}

func parseKeys(texts []string) ([]key, error) {
	var out []key
	for _, text := range texts {
		k, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

func (o *options) checker(keys []key) (*checker, error) {
	var payload payloadKeys
	var err error
	if o.payloadKeys != "" {
		if payload, err = loadKeys(o.payloadKeys); err != nil {
			return nil, err
		}
	}
	c := newChecker(keys, payload)
	witnesses, err := parseKeys(o.witnesses)
	if err != nil {
		return nil, err
	}
	for _, k := range witnesses {
		if k.kind != typeCosignature {
			return nil, errors.New("the key of a witness is of type 4")
		}
		c.witness = append(c.witness, witnessed{key: k})
	}
	for _, name := range o.checkpoints {
		text, err := readFile(name, 256<<20)
		if err != nil {
			return nil, err
		}
		kept := parseCheckpoints(string(text))
		if len(kept) == 0 {
			return nil, errors.New("a file of checkpoints holds none")
		}
		for _, k := range kept {
			c.keep(k)
		}
	}
	return c, nil
}

// parseCheckpoints reads checkpoints that follow each other with an empty line between them, as a ledger's folder of checkpoints holds them.
func parseCheckpoints(text string) []checkpoint {
	var out []checkpoint
	blocks := strings.Split(text, "\n\n")
	for i := 1; i < len(blocks); i++ {
		if strings.HasPrefix(blocks[i], "— ") {
			if c, err := parseCheckpoint([]byte(blocks[i-1] + "\n\n" + strings.TrimSuffix(blocks[i], "\n") + "\n")); err == nil {
				out = append(out, c)
			}
		}
	}
	return out
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil || int64(len(b)) > limit {
		return nil, fmt.Errorf("%s cannot be read, or is too large", path)
	}
	return b, nil
}

func open(path string) (*os.File, error) {
	if path == "-" {
		return os.Stdin, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be opened", path)
	}
	return f, nil
}

func runExport(path string, c *checker, logs []string, out, errs io.Writer) int {
	f, err := open(path)
	if err != nil {
		fmt.Fprintln(errs, "verify:", err)
		return 2
	}
	defer f.Close()
	if err := c.read(f); err != nil {
		fmt.Fprintln(errs, "verify:", err)
		return 1
	}
	fmt.Fprintf(out, "ledger %s: %d entries, %d checkpoints\n", c.origin, c.tree.size, c.signed)
	if k := c.continues; k != nil {
		fmt.Fprintf(out, "it continues ledger %s after %d entries\n", k.origin, k.size)
	}
	for _, w := range c.witness {
		if w.size > 0 {
			fmt.Fprintf(out, "witness %s cosigned %d entries, at %s\n", w.key.name, w.size, w.at.Format(time.RFC3339))
		}
	}
	if len(c.kept) > 0 {
		counted, strange := c.heldAgainst()
		fmt.Fprintf(out, "held against %d checkpoints that were kept elsewhere\n", counted)
		if strange > 0 {
			fmt.Fprintf(out, "%d more say nothing: no key of this ledger signed them\n", strange)
		}
	}
	fmt.Fprintf(out, "payloads: %d opened, %d erased\n", c.opened, len(c.erased))
	bad := c.found
	if c.replay.on {
		fmt.Fprintf(out, "consent replayed: %d releases, %d violations\n", c.replay.releases, c.replay.violations)
	} else {
		fmt.Fprintln(out, "consent not replayed: give the payload keys (-keys DIR), or an export that was made with payloads in clear")
	}
	if len(logs) > 0 {
		n, err := reconcileFiles(c, logs, out)
		if err != nil {
			fmt.Fprintln(errs, "verify:", err)
			return 1
		}
		bad += n
	}
	if bad == 0 {
		fmt.Fprintln(out, "sound")
		return 0
	}
	if c.found > 0 {
		fmt.Fprintf(out, "NOT SOUND: %d problems, the first at entry %d\n", c.found, c.problems[0].position)
		for _, p := range c.problems {
			fmt.Fprintf(out, "  entry %d: %s\n", p.position, p.text)
		}
	}
	return 1
}

func reconcileFiles(c *checker, names []string, out io.Writer) (int, error) {
	if !c.replay.on {
		return 0, errors.New("custodians' logs can be held against an export only if its payloads can be read: -keys DIR")
	}
	var logs []requestLog
	for _, name := range names {
		f, err := open(name)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		logs = append(logs, requestLog{name, f})
	}
	r, err := c.replay.reconcile(logs)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "custodians' logs: %d requests, %d without an entry; %d accesses of which a custodian's log has nothing\n", r.lines, len(r.unentered), r.unlogged)
	for i, p := range r.unentered {
		if i == maxProblems {
			break
		}
		fmt.Fprintf(out, "  %s, line %d: %s\n", p.log, p.line, p.text)
	}
	return len(r.unentered), nil
}

func runReceipt(text string, c *checker, o *options, out, errs io.Writer) int {
	if text == "-" {
		b, err := readFile(text, 1<<16)
		if err != nil {
			fmt.Fprintln(errs, "verify:", err)
			return 2
		}
		text = string(b)
	}
	r, err := parseReceipt(text)
	if given := nonEmpty(o.export, o.archive, o.proof); err == nil && given != 1 {
		err = errors.New("give one of -export FILE, -archive FILE and -proof FILE")
	}
	if err != nil {
		fmt.Fprintf(errs, "verify: %s\n%s", err, usage)
		return 2
	}
	size, origin := uint64(0), ""
	switch {
	case o.proof != "":
		var p checkpoint
		p, err = proveByFile(r, o.proof, c)
		size, origin = p.size, p.origin
	case o.archive != "":
		err = proveByArchive(r, o.archive, c)
		size, origin = c.last.size, c.origin
	default:
		err = proveByExport(r, o.export, c)
		size, origin = c.last.size, c.origin
	}
	if err != nil {
		fmt.Fprintln(out, "NOT PROVED:", err)
		return 1
	}
	fmt.Fprintf(out, "proved: entry %d stands in ledger %s, under a signed checkpoint of %d entries\n", r.position, origin, size)
	return 0
}

func nonEmpty(texts ...string) (n int) {
	for _, t := range texts {
		if t != "" {
			n++
		}
	}
	return n
}

func runWitness(ctx context.Context, o *options, out, errs io.Writer) int {
	logs, err := parseKeys(o.ledgers)
	if err == nil && (o.dir == "" || o.listen == "") {
		err = errors.New("a witness needs -dir and -listen")
	}
	var w *witness
	if err == nil {
		w, err = openWitness(o.dir, o.name, logs, out)
	}
	var identity *tls.Config
	if err == nil && o.cert != "" {
		pair, failed := tls.LoadX509KeyPair(o.cert, o.tls)
		if failed != nil {
			err = errors.New("certificate and key cannot be read, or do not belong together")
		}
		identity = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	if w != nil {
		defer func() { _ = w.close() }() // the process ends
	}
	if err != nil {
		fmt.Fprintf(errs, "verify: %s\n", err)
		return 2
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		fmt.Fprintf(errs, "verify: cannot listen on %s\n", o.listen)
		return 1
	}
	fmt.Fprintf(out, "witness %s listens on %s\nkey %s\n", o.name, l.Addr(), w.key())
	if err := w.serve(ctx, l, identity); err != nil {
		fmt.Fprintf(errs, "verify: %s\n", err)
		return 1
	}
	return 0
}

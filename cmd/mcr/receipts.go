package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// auditReceipt says whether a receipt is true: whether that entry stands in the ledger. The proof is checked here, not believed.
func (a *app) auditReceipt(ctx context.Context, c *call) error {
	s := serverFlags(c.flags, 15*time.Second)
	var origin, key, output string
	c.flags.StringVar(&origin, "origin", "", "the ledger's `name`, as the receipt gives it; default: this ledger")
	c.flags.StringVar(&key, "verifier-key", "", "the `key` by which the ledger's checkpoints are checked, which its operator publishes; without it the checkpoint's signature is not checked")
	c.flags.StringVar(&output, "o", "text", "text or json")
	if err := c.words(1, "a receipt, such as 1234.0f3a…: the number of an entry, a dot and its leaf in 64 hex digits, and flags"); err != nil {
		return err
	}
	if output != "text" && output != "json" {
		return useError("-o: text or json")
	}
	position, leaf, ok := strings.Cut(c.args[0], ".")
	r := &v1.Receipt{Origin: origin}
	var err, err2 error
	r.Position, err = strconv.ParseUint(position, 10, 63)
	r.Leaf, err2 = hex.DecodeString(leaf)
	if !ok || err != nil || err2 != nil || len(r.Leaf) != tlog.HashSize {
		return useError("mcr audit receipt takes the number of an entry, a dot and its leaf in 64 hex digits")
	}
	ctx, cancel, conn, err := a.dial(ctx, s)
	if err != nil {
		return err
	}
	defer func() { cancel(); _ = conn.Close() }()
	client := v1.NewAuditServiceClient(conn)
	if r.Origin == "" {
		newest, err := client.GetCheckpoint(ctx, &v1.GetCheckpointRequest{})
		if err != nil {
			return err
		}
		r.Origin, _, _ = strings.Cut(string(newest.GetCheckpoint().GetNote()), "\n")
	}
	out, err := client.ProveInclusion(ctx, &v1.ProveInclusionRequest{Receipt: r})
	if status.Code(err) == codes.NotFound {
		a.say("NOT TRUE, or less than a second old: no entry with this leaf stands at this place of the ledger, or it is not under a checkpoint yet. Ask again in a second, and if it " +
			"stays so, keep the receipt and tell the ledger's operator and your privacy officer.\n")
		return err
	}
	if err != nil {
		return err
	}
	signed, err := checkInclusion(r, out, key)
	if err != nil {
		return err
	}
	if output == "json" {
		a.say("%s\n", jsonOf(out, "{}"))
		return nil
	}
	a.say("TRUE. Entry %d stands in the ledger %s as the receipt says: it is proved to be among the %d entries of the checkpoint of %s.\n", r.GetPosition(), safe(r.GetOrigin()),
		out.GetCheckpoint().GetSize(), clock(out.GetCheckpoint().GetAt().AsTime(), "2 January 2006, 15:04:05"))
	if signed {
		a.say("The checkpoint is signed by the key that you gave.\n")
	} else {
		a.say("The checkpoint's signature was not checked: give -verifier-key to check it.\n")
	}
	return nil
}

// checkInclusion checks a proof against the checkpoint that came with it, and the checkpoint's signature where there is a key.
func checkInclusion(r *v1.Receipt, out *v1.ProveInclusionResponse, key string) (signed bool, err error) {
	text := string(out.GetCheckpoint().GetNote())
	if key != "" {
		v, err := note.NewVerifier(key)
		if err != nil {
			return false, useError("-verifier-key: not a verifier key (name+id+base64)")
		}
		n, err := note.Open(out.GetCheckpoint().GetNote(), note.VerifierList(v))
		if err != nil {
			return false, fmt.Errorf("the checkpoint is not signed by the key that you gave: do not believe this answer, and tell your privacy officer")
		}
		text, signed = n.Text, true
	}
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[0] != r.GetOrigin() || lines[1] != strconv.FormatUint(out.GetCheckpoint().GetSize(), 10) {
		return false, fmt.Errorf("the checkpoint is of another ledger, or of another size than it says")
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize || out.GetCheckpoint().GetSize() >= 1<<62 {
		return false, fmt.Errorf("the checkpoint cannot be read")
	}
	proof := make(tlog.RecordProof, len(out.GetProof()))
	for i, h := range out.GetProof() {
		if len(h) != tlog.HashSize {
			return false, fmt.Errorf("the proof cannot be read")
		}
		proof[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(proof, int64(out.GetCheckpoint().GetSize()), tlog.Hash(root), int64(r.GetPosition()), tlog.Hash(r.GetLeaf())); err != nil {
		return false, fmt.Errorf("the proof does not lead from the receipt to the checkpoint: do not believe this answer, and tell your privacy officer")
	}
	return signed, nil
}

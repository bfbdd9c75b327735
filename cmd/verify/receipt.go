package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// receipt is what a caller was given: that an entry stands in a ledger.
type receipt struct {
	origin   string // "" if it does not say
	position uint64
	leaf     hash
}

var errReceipt = errors.New("a receipt is the header X-Access-Receipt, or POSITION.LEAF as it stands in a Bundle's meta.tag, or the gRPC message as JSON")

// parseReceipt reads a receipt in the form of any of the three faces: the header of REST (position, dot, leaf in hex, and the origin after a semicolon), the tag of
// a Bundle (the same without the origin), or the JSON of the gRPC message, of an answer or of a stream's summary.
func parseReceipt(text string) (receipt, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		var m struct {
			Origin   string          `json:"origin"`
			Position json.RawMessage `json:"position"`
			Leaf     string          `json:"leaf"`
		}
		if json.Unmarshal([]byte(text), &m) != nil {
			return receipt{}, errReceipt
		}
		n, err := strconv.ParseUint(strings.Trim(string(m.Position), `"`), 10, 63)
		leaf, err2 := base64.StdEncoding.DecodeString(m.Leaf)
		if err != nil || err2 != nil || len(leaf) != 32 {
			return receipt{}, errReceipt
		}
		return receipt{m.Origin, n, hash(leaf)}, nil
	}
	if name, value, ok := strings.Cut(text, ":"); ok && strings.EqualFold(name, "X-Access-Receipt") {
		text = strings.TrimSpace(value)
	}
	tag, rest, _ := strings.Cut(text, ";")
	position, leaf, _ := strings.Cut(strings.TrimSpace(tag), ".")
	n, err := strconv.ParseUint(position, 10, 63)
	b, err2 := hex.DecodeString(leaf)
	if err != nil || err2 != nil || len(b) != 32 {
		return receipt{}, errReceipt
	}
	origin := ""
	if value, ok := strings.CutPrefix(strings.TrimSpace(rest), "origin="); ok {
		origin = strings.Trim(value, `"`)
	}
	return receipt{origin, n, hash(b)}, nil
}

// proofFile is the answer of ProveInclusion as JSON.
type proofFile struct {
	Checkpoint struct {
		Note []byte `json:"note"`
	} `json:"checkpoint"`
	Proof [][]byte `json:"proof"`
}

// proveByFile checks a receipt with a proof that the ledger gave.
func proveByFile(r receipt, path string, by *checker) (checkpoint, error) {
	text, err := readFile(path, 1<<20)
	if err != nil {
		return checkpoint{}, err
	}
	var p proofFile
	if json.Unmarshal(text, &p) != nil {
		return checkpoint{}, errors.New("the proof is not the JSON of ProveInclusion's answer")
	}
	c, err := parseCheckpoint(p.Checkpoint.Note)
	if err != nil {
		return checkpoint{}, err
	}
	var proof []hash
	for _, h := range p.Proof {
		if len(h) != 32 {
			return checkpoint{}, errors.New("the proof holds a hash of the wrong length")
		}
		proof = append(proof, hash(h))
	}
	switch {
	case !c.signedBy(by.trusted):
		return c, errors.New("the proof's checkpoint is not signed by a key that is trusted")
	case r.origin != "" && r.origin != c.origin:
		return c, errors.New("the receipt is of another ledger")
	case !included(r.leaf, r.position, c.size, proof, c.root):
		return c, fmt.Errorf("entry %d is NOT proved: the proof does not lead from the receipt to the checkpoint", r.position)
	}
	for _, w := range by.witness {
		if _, is := c.cosignedBy(w.key); !is {
			return c, fmt.Errorf("the witness %s has not cosigned the proof's checkpoint", w.key.name)
		}
	}
	return c, by.isKept(c)
}

// isKept holds a checkpoint against those that were kept elsewhere, if there are any. A proof leads to one checkpoint and says nothing of others, so it must be one of them.
func (c *checker) isKept(p checkpoint) error {
	if len(c.kept) == 0 {
		return nil
	}
	held := false
	for _, k := range c.kept[p.size] {
		switch {
		case k.origin != p.origin:
		case k.root == p.root:
			held = true
		default:
			return fmt.Errorf("the proof's checkpoint, of %d entries, is not what was kept elsewhere: the ledger showed two pasts, or a stranger made what was kept", p.size)
		}
	}
	if !held {
		return fmt.Errorf("no checkpoint that was kept elsewhere is of as many entries as the proof's, %d: ask for a proof with its size, or give -export", p.size)
	}
	return nil
}

// proveByExport checks that the receipt's entry stands in an export, which is checked whole.
func proveByExport(r receipt, path string, c *checker) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.New("the export cannot be opened")
	}
	defer f.Close()
	c.leaves[r.position] = hash{}
	if err := c.read(f); err != nil {
		return err
	}
	switch {
	case c.found > 0:
		return fmt.Errorf("the export is not sound: %d problems, the first at entry %d: %s", c.found, c.problems[0].position, c.problems[0].text)
	case r.origin != "" && r.origin != c.origin:
		return errors.New("the receipt is of another ledger")
	case r.position >= c.last.size:
		return fmt.Errorf("entry %d is not under the export's last checkpoint, of %d entries: export again", r.position, c.last.size)
	case c.leaves[r.position] != r.leaf:
		return fmt.Errorf("entry %d is NOT what the receipt says: another entry stands there", r.position)
	}
	return nil
}

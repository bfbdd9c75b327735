package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// signer returns what signs under the ledger's name, and the text by which others know it: name, key ID and public key (C2SP signed-note).
func (k signingKey) signer(origin string) (note.Signer, string, error) {
	public := ed25519.NewKeyFromSeed(k.seed[:]).Public().(ed25519.PublicKey)
	text, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, "", fmt.Errorf("%w: the origin cannot sign", ErrInvalid)
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, "", fmt.Errorf("%w: the origin cannot sign", ErrInvalid)
	}
	const ed25519Type = 1
	secret := base64.StdEncoding.EncodeToString(append([]byte{ed25519Type}, k.seed[:]...))
	s, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", origin, v.KeyHash(), secret))
	if err != nil {
		return nil, "", fmt.Errorf("%w: signing-%04d%s cannot sign", ErrKeys, k.number, keySuffix)
	}
	return s, text, nil
}

// signers returns what signs checkpoints: every signing key that is there.
func (k *Keys) signers(origin string) ([]note.Signer, error) {
	var out []note.Signer
	for _, key := range k.signing {
		s, _, err := key.signer(origin)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: there is none to sign checkpoints with: `broker keys add -kind signing` makes one", ErrKeys)
	}
	return out, nil
}

// Verifiers returns the public halves of the signing keys under the ledger's name, oldest first, as checkers and witnesses take them.
func (k *Keys) Verifiers(origin string) ([]string, error) {
	var out []string
	for _, key := range k.signing {
		_, text, err := key.signer(origin)
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

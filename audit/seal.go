package audit

import (
	"crypto/aes"
	"crypto/cipher"
)

// XAES-256-GCM (c2sp.org/XAES-256-GCM, version 1): AES-256-GCM under a key derived from the first half of a 24-byte random nonce. Plain
// AES-GCM with 12 random bytes must not be used for more than 2^32 messages under one key (NIST SP 800-38D, 8.3), which a busy region
// reaches in a few years; with 24 there is no such bound worth counting.
const (
	nonceSize = 24
	keySize   = 32
)

func gcmFor(key [keySize]byte, nonce []byte) cipher.AEAD {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic("a 32-byte AES key was refused")
	}
	var k1 [aes.BlockSize]byte
	c.Encrypt(k1[:], k1[:])
	msb := byte(0)
	for i := len(k1) - 1; i >= 0; i-- {
		k1[i], msb = k1[i]<<1|msb, k1[i]>>7
	}
	k1[len(k1)-1] ^= -msb & 0x87 // doubling in GF(2^128), as in CMAC
	var derived [keySize]byte
	for i := range 2 {
		m := derived[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(m, []byte{0, byte(i + 1), 'X', 0})
		copy(m[4:], nonce[:12])
		for j := range m {
			m[j] ^= k1[j]
		}
		c.Encrypt(m, m)
	}
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		panic("a 32-byte AES key was refused")
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("AES-GCM was refused")
	}
	return gcm
}

// seal returns nonce, ciphertext and tag. gcm is that for the key and this nonce.
func seal(gcm cipher.AEAD, nonce [nonceSize]byte, plain, associated []byte) []byte {
	out := make([]byte, nonceSize, nonceSize+len(plain)+gcm.Overhead())
	copy(out, nonce[:])
	return gcm.Seal(out, nonce[12:], plain, associated)
}

// unseal returns what seal was given, and false if anything of it differs.
func unseal(key [keySize]byte, sealed, associated []byte) ([]byte, bool) {
	if len(sealed) < nonceSize {
		return nil, false
	}
	nonce := sealed[:nonceSize]
	plain, err := gcmFor(key, nonce).Open(nil, nonce[12:], sealed[nonceSize:], associated)
	return plain, err == nil
}

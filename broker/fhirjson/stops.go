package fhirjson

import (
	"encoding/binary"
	"math/bits"
)

// stops says of a part of the text which bytes a string cannot go over without a look: a quotation mark, a backslash, a control character, a byte
// beyond ASCII. How long a string is cannot be foreseen, so looking along each costs a branch that is often foretold wrongly. All bytes of a part are
// looked at before, many at a time and without a branch; where a string ends is then the next bit that is set.
type stops struct {
	marks marks
	from  uint   // where the part begins
	reach uint64 // as many low bits as a string may have bytes, and one for what ends it: within them near finds its end
}

// part is of how many bytes stops speaks at a time: what is noted of them should stay in the nearest memory.
const part = 4 << 10

// marks has a bit for each byte of a part, lowest first, and eight bytes more that are zero, so that eight can be read at any.
type marks [part/8 + 8]byte

// wordwise says that what the machine has for many bytes at once is not to be used, but what is there for machines that have nothing. Tests set it.
var wordwise bool

// begin looks at the first part.
func (s *scanner) begin() {
	s.reach = ^uint64(0) >> (63 - min(63, s.lim.StringBytes))
	s.look(0)
}

// look notes the part that begins at i.
func (s *scanner) look(i uint) {
	s.from = i
	text := s.src[i:min(i+part, uint(len(s.src)))]
	whole := len(text) &^ 63
	if wordwise {
		markWords(&s.marks, text[:whole])
	} else {
		markBlocks(&s.marks, text[:whole])
	}
	if whole == part {
		return
	}
	clear(s.marks[whole/8:]) // nothing stops behind the text
	last := [64]byte{}
	for n := copy(last[:], text[whole:]); n < len(last); n++ {
		last[n] = ' '
	}
	markWord((*[8]byte)(s.marks[whole/8:]), &last)
}

// ahead returns the bits of the bytes from the one at that place of the part on, lowest first: of 57 at least.
func (s *stops) ahead(at uint) uint64 {
	return binary.LittleEndian.Uint64(s.marks[at/8:]) >> (at % 8)
}

// near returns the place of the first byte from i on that a string cannot go over without a look, if that is soon and no cap comes before; else the
// end of the text.
func (s *scanner) near(i uint) uint {
	if at := i - s.from; at < part {
		if m := s.ahead(at) & s.reach; m != 0 {
			return i + uint(bits.TrailingZeros64(m))
		}
	}
	return uint(len(s.src))
}

// markWords notes a text of whole blocks of 64 bytes that is no longer than a part. markBlocks does the same as fast as the machine can.
func markWords(to *marks, text []byte) {
	for n := 0; len(text) >= 64; n += 8 {
		markWord((*[8]byte)(to[n:]), (*[64]byte)(text))
		text = text[64:]
	}
}

// markWord notes a block, eight bytes at a time.
func markWord(to *[8]byte, block *[64]byte) {
	const turned = '"' ^ ' ' // with this turned over the quotation mark stands right behind the control characters
	all := uint64(0)
	for i := 0; i < 64; i += 8 {
		w := binary.LittleEndian.Uint64(block[i : i+8])
		low := w&^tops ^ turned*ones // without the top bits, so that no sum goes over into the next byte
		plain := (low + (0x7f-' ')*ones) & ((low ^ ('\\'^turned)*ones) + 0x7f*ones)
		all |= ((^plain | w) & tops >> 7 * gather >> 56) << i
	}
	binary.LittleEndian.PutUint64(to[:], all)
}

// gather moves the lowest bits of eight bytes into the highest byte, in their order.
const gather = 0x0102040810204080

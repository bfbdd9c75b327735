#include "textflag.h"

// SIXTEEN notes the sixteen bytes at from: two bytes of marks, at to. With one bit turned over, and as signed numbers, all that is to be marked but
// the backslash comes first: bytes beyond ASCII are negative, then come the control characters, and right behind them the quotation mark. So two
// comparisons find everything, and the top bits of their results are the marks.
#define SIXTEEN(from, to) \
	MOVOU    from, X0 \
	PXOR     X5, X0   \
	MOVO     X6, X1   \
	PCMPGTB  X0, X1   \ // X1 > X0
	PCMPEQB  X7, X0   \
	POR      X1, X0   \
	PMOVMSKB X0, AX   \
	MOVW     AX, to

// func markBlocks(to *marks, text []byte)
TEXT ·markBlocks(SB), NOSPLIT, $0-32
	MOVQ to+0(FP), DI
	MOVQ text_base+8(FP), SI
	MOVQ text_len+16(FP), CX
	ADDQ SI, CX

	MOVQ       $0x0202020202020202, AX // the bit that is turned over
	MOVQ       AX, X5
	PUNPCKLQDQ X5, X5
	MOVQ       $0x2121212121212121, AX // what comes right behind the quotation mark
	MOVQ       AX, X6
	PUNPCKLQDQ X6, X6
	MOVQ       $0x5e5e5e5e5e5e5e5e, AX // the backslash, its bit turned over
	MOVQ       AX, X7
	PUNPCKLQDQ X7, X7

	JMP  next

block:
	SIXTEEN(0(SI), 0(DI))
	SIXTEEN(16(SI), 2(DI))
	SIXTEEN(32(SI), 4(DI))
	SIXTEEN(48(SI), 6(DI))
	ADDQ $64, SI
	ADDQ $8, DI

next:
	CMPQ SI, CX
	JB   block
	RET

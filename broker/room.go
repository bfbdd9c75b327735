package broker

import (
	"sync/atomic"
)

// room is the memory that all requests may hold at once. It is reserved before anybody is asked.
type room struct {
	size int64
	free atomic.Int64
}

func newRoom(size int64) *room {
	r := &room{size: size}
	r.free.Store(size)
	return r
}

// take reserves n bytes, or reports that there is no room.
func (r *room) take(n int64) bool {
	if r.free.Add(-n) >= 0 {
		return true
	}
	r.free.Add(n)
	return false
}

func (r *room) giveBack(n int64) { r.free.Add(n) }

func (r *room) used() int64 { return r.size - r.free.Load() }

// bytesUsed is what the replies of one request hold together.
type bytesUsed struct {
	limit int64
	n     atomic.Int64
}

// take reports whether n more decoded bytes may be held, and counts them if so.
func (u *bytesUsed) take(n int64) bool {
	if u.n.Add(n) <= u.limit {
		return true
	}
	u.n.Add(-n)
	return false
}

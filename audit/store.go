package audit

import (
	"context"
	"errors"
	"time"
)

// What a store says when it fails. Any other error of Update means that nothing of the transaction was kept.
var (
	// ErrUnknownOutcome is wrapped by the error of an Update whose commit was attempted and not confirmed: the transaction may have been kept.
	ErrUnknownOutcome = errors.New("it is not known whether the commit was kept")

	// ErrUnsound is wrapped by every error of a store that can no longer be trusted: a write or a sync failed, so what is read back
	// may not be what is on disk. It stays unsound until it is opened anew.
	ErrUnsound = errors.New("the store failed to write and must be opened anew")

	// ErrFull is wrapped by the error of an Update that found no room. Nothing was kept; the store works again when there is room.
	ErrFull = errors.New("the store has no room")

	// ErrNoEntry is returned by Reader.Entry for a position that holds none.
	ErrNoEntry = errors.New("no entry at this position")
)

// Store keeps the ledger's rows: the entries, and beside them what is needed to find them. All of the second can be rebuilt from
// the first ([Verify] compares them), but for which replica holds an open access. It is called concurrently: Update from one goroutine at
// a time, View from many. Where several processes share what is stored, each has a Store of its own, and all that is said here holds between them.
//
// A store knows nothing of people: it sees sealed entries, keyed hashes and ODS codes, and MUST NOT be given more.
type Store interface {
	// Update runs f in one transaction that can write, calling it exactly once. The transaction MUST see every earlier one that was
	// kept, and nothing else may write while it runs. ahead is what f will ask for: as with Tx.Expect it changes no answer, and a store
	// behind a network can fetch it as the transaction begins.
	//
	// If f returns nil, Update commits, and MUST NOT return nil before the transaction would survive the loss of power. It MUST NOT
	// give up a commit that has begun because ctx is done. If f returns an error or panics, nothing MUST be kept, and Update returns
	// that error or panics on.
	//
	// An error that wraps ErrUnknownOutcome means that the transaction may have been kept. Any other error MUST mean that it was not.
	// After a failed write or sync, this and all later calls MUST return errors that wrap ErrUnsound (an unconfirmed commit wraps both).
	Update(ctx context.Context, ahead Wanted, f func(Tx) error) error

	// View runs f on one consistent state that includes every transaction whose Update has returned nil before View was called:
	// never a copy that lags. It stops when ctx is done.
	View(ctx context.Context, f func(Reader) error) error

	// Purge sees to it that what transactions before it erased is in none of the files that the store writes, free space and logs included. It is
	// called where Update might be, may take long, and changes nothing that can be read. An error means that it must be called again.
	Purge(ctx context.Context) error

	// Close ends the store. It is called once, when no Update and no View runs.
	Close() error
}

// Head is the state of the order: where the next entry goes, the time of the newest, and the tree over all of them.
type Head struct {
	Size     uint64     // number of entries, and the position of the next
	Newest   time.Time  // of the entry at Size-1; zero if there is none
	Frontier [][32]byte // roots of the complete subtrees that make up the tree of Size leaves, largest first: one for each 1 in Size's binary digits
}

// Node is the root of a complete subtree of the tree over the leaves: that of the 256^Level leaves from position Index*256^Level on. Level is at least 1:
// of what lies between, nothing is kept, because it is made of at most 255 hashes that are.
type Node struct {
	Level uint8
	Index uint64
	Hash  [32]byte
}

// Checkpoint is a signed statement of the ledger's size and root (C2SP tlog-checkpoint), with what witnesses added to it.
type Checkpoint struct {
	Size uint64
	At   time.Time // when it was signed, in whole microseconds
	Note []byte    // the signed note
}

// Reader reads one consistent state. Its errors are the store's; Entry alone has one of its own, ErrNoEntry.
type Reader interface {
	// Head returns the head row. It is not computed from the entries.
	Head() (Head, error)

	// Entry returns the entry at a position, or ErrNoEntry.
	Entry(position uint64) (Entry, error)

	// Entries returns at most limit entries from a position on, in order.
	Entries(from uint64, limit int) ([]Entry, error)

	// EntriesAt returns the entries at the positions, in their order; a position that holds none is left out. A position is given once.
	EntriesAt(positions []uint64) ([]Entry, error)

	// Leaves is Entries without what is sealed: Sealed of each is nil. It costs little where Entries reads much.
	Leaves(from uint64, limit int) ([]Entry, error)

	// Nodes returns at most limit nodes of a level from an index on, in order. Those of level 0 are the leaf hashes of the entries.
	Nodes(level uint8, from uint64, limit int) ([]Node, error)

	// Checkpoints returns at most limit checkpoints from a size on, in order of size.
	Checkpoints(from uint64, limit int) ([]Checkpoint, error)

	// LastCheckpoint returns the checkpoint of the greatest size, and false if there is none.
	LastCheckpoint() (Checkpoint, bool, error)

	// OfType returns the positions of at most limit entries of a type, from a position on, in order.
	OfType(t EntryType, from uint64, limit int) ([]uint64, error)

	// Newest returns the highest position that carries any of the marks, and false if none does.
	Newest(any []Mark) (uint64, bool, error)

	// Search returns positions, highest first.
	Search(q Query) ([]uint64, error)

	// Searches is Search for several at once, each answer in its place: a store behind a network need not wait for each.
	Searches(list []Query) ([][]uint64, error)

	// EachMark calls f with every mark, in any order.
	EachMark(f func(position uint64, m Mark) error) error

	// Objection returns the row of an objection or delegation, and false if there is none.
	Objection(id string) (ObjectionRow, bool, error)

	// ObjectionsOf returns the rows of the persons, in any order.
	ObjectionsOf(persons []string) ([]ObjectionRow, error)

	// EachObjection calls f with every row, in any order.
	EachObjection(f func(ObjectionRow) error) error

	// IsOpen reports whether the access that the Begin at the position opened is still open.
	IsOpen(position uint64) (bool, error)

	// Open returns the positions of at most limit open accesses that were due at or before the time, in order; a zero time means all.
	Open(due time.Time, limit int) ([]uint64, error)

	// OpenOf is Open for those accesses alone that one replica holds.
	OpenOf(holder string, due time.Time, limit int) ([]uint64, error)

	// OpenCount returns how many accesses are open.
	OpenCount() (int, error)

	// EachAlert calls f with every alert, in order.
	EachAlert(f func(AlertRow) error) error

	// Alerts returns at most limit alerts from a position on, in order: of those that are not delivered, or not reviewed, or of all.
	Alerts(which AlertState, from uint64, limit int) ([]AlertRow, error)
}

// Tx is a Reader that sees what it has written, and writes.
type Tx interface {
	Reader

	// Append adds an entry with its marks and moves the head's Size and Newest. e.Position MUST be the head's Size; a store refuses any other.
	// A mark that is given twice counts once.
	Append(e Entry, marks []Mark) error

	// PutTree sets the head's Frontier and adds nodes. A node that is there is replaced. A store MUST refuse to commit (ErrDamaged) where entries were
	// appended after the last PutTree, or the Frontier does not hold one hash for each 1 in the binary digits of Size: a tree that was forgotten is never kept.
	PutTree(frontier [][32]byte, nodes []Node) error

	// PutCheckpoint adds the checkpoint of a size, or replaces it (by the same, with more signatures).
	PutCheckpoint(c Checkpoint) error

	// Erase removes what is sealed of an entry, which keeps everything else, and the marks given, which are all that it has (ENTRY.md, Erasure).
	Erase(position uint64, marks []Mark) error

	// DropObjection removes the row of an objection or delegation whose entries are erased.
	DropObjection(id string) error

	// PutObjection adds or replaces the row of an objection or delegation.
	PutObjection(r ObjectionRow) error

	// OpenAccess notes that the Begin at the position is open, which replica holds it, and when it is due to be abandoned.
	OpenAccess(position uint64, due time.Time, holder string) error

	// CloseAccess notes that it is open no longer.
	CloseAccess(position uint64) error

	// PutAlert adds an alert, not delivered and not reviewed.
	PutAlert(position uint64, kind AlertKind) error

	// AlertDelivered notes when an alert was delivered. A second call changes nothing, and so does one for a position without an alert.
	AlertDelivered(position uint64, at time.Time) error

	// AlertReviewed notes the position of the newest Review entry of an alert, or of the one that closed it; 0: it is open again.
	AlertReviewed(position, review uint64) error

	// Expect says what else the transaction is about to ask for, so that a store behind a network can fetch it at once. It changes no answer,
	// and a store may do nothing.
	Expect(w Wanted) error
}

// Wanted is what a transaction is about to ask a store for.
type Wanted struct {
	Marks   []Mark   // of Newest
	Persons []string // of ObjectionsOf, and the entries that the rows point to
	Open    []uint64 // of IsOpen
}

func (w *Wanted) add(more Wanted) {
	w.Marks, w.Persons, w.Open = append(w.Marks, more.Marks...), append(w.Persons, more.Persons...), append(w.Open, more.Open...)
}

// MarkKind says what a mark finds an entry by. The numbers are final.
type MarkKind uint8

// The kinds of mark. A Value is a keyed hash (32 bytes) where it stands for a person or a user.
const (
	MarkPerson       MarkKind = 1  // keyed hash of an NHS number (L-3)
	MarkUser         MarkKind = 2  // keyed hash of a requester's user id
	MarkOrganisation MarkKind = 3  // ODS code of the requester's organisation
	MarkCustodian    MarkKind = 4  // key of a custodian that was asked, or that an objection names
	MarkKey          MarkKind = 5  // keyed hash of what makes a write safe to repeat
	MarkAskedNo      MarkKind = 6  // keyed hash of person and user: the person said no when this user asked
	MarkPolicy       MarkKind = 7  // the configuration in force: Value is empty
	MarkEpoch        MarkKind = 8  // a key epoch: Value is its number, four bytes, big-endian
	MarkImport       MarkKind = 9  // an Import: Value is empty. Its Imported: Value is the Import's position, eight bytes, big-endian
	MarkFollower     MarkKind = 10 // what a following system was told: Value is its client id
	MarkAdopted      MarkKind = 11 // what it adopted: Value is its client id
	MarkSigner       MarkKind = 12 // a key that signs checkpoints: Value is the SHA-256 of its text
	MarkAlertOf      MarkKind = 13 // an Alert: Value is the position of the access that it is about, eight bytes, big-endian
	MarkTopic        MarkKind = 14 // an Alert: keyed hash of what it is about
	MarkHandled      MarkKind = 15 // a Handled: Value is the position of its Alert, eight bytes, big-endian
	MarkPurpose      MarkKind = 16 // what ends an access, or refuses one, that was not for direct care: Value is the purpose's code
)

// Mark is one thing that an entry can be found by.
type Mark struct {
	Kind  MarkKind
	Value string // bytes, not text
}

// Query is a search in marks. Every group of All must match; a group matches if the entry carries any of its marks.
type Query struct {
	All    [][]Mark    // no group may be empty
	Types  []EntryType // nil: all
	From   time.Time   // entries from this time on; zero: from ever
	Until  time.Time   // entries before this time; zero: without end
	Least  uint64      // positions from this on
	Before uint64      // positions below this
	Limit  int
	Rare   bool // walk the entries of Types, which are few, and try the groups on each. It changes no answer
}

// ObjectionRow is the newest state of one objection, or of one delegation to a carer: the entry at Position says which, and what it is.
type ObjectionRow struct {
	ID       string
	Person   string // keyed hash, under the key epoch of the entry
	Position uint64
}

// AlertKind says why somebody must look at an override, or names the rule that found an access.
type AlertKind string

// The kinds of alert of overrides. Those of the worklist's rules are the names of the rules.
const (
	AlertBreakGlass AlertKind = "break-glass" // C-3
	AlertAfterNo    AlertKind = "after-no"    // the same user was told no for this person within 24 hours before
)

// AlertState says which alerts are asked for.
type AlertState string

// The states of alerts.
const (
	AnyAlert    AlertState = ""
	Undelivered AlertState = "undelivered"
	Unreviewed  AlertState = "unreviewed" // or, of an alert of the worklist, not closed
)

// AlertRow is one alert. Delivery and review are noted beside the ledger; the review, or the closing, itself is an entry.
type AlertRow struct {
	Position  uint64 // of the Override or Alert entry
	Kind      AlertKind
	Delivered time.Time // zero: not yet
	Review    uint64    // position of the Review entry, or of the Handled one that closed it; 0 for none
}

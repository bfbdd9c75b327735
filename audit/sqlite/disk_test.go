package sqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// disk is a file system for SQLite that passes everything on to the real one, and keeps beside it what a disk would hold if the power failed now:
// for each file the bytes of its last sync, and the writes since, each of which may or may not have reached the disk, whole or torn at a
// sector. It can also fail the n-th write or sync.
type disk struct {
	name string
	vfs  uintptr
	tls  *libc.TLS
	keep []any // functions that SQLite holds as numbers

	mu      sync.Mutex
	files   map[string]*diskFile
	handles map[uintptr]*diskFile
	real    map[uintptr]*lib.Tsqlite3_io_methods
	methods map[uintptr]uintptr // the real methods' address -> ours

	calls    int           // writes, syncs and truncations
	failAt   int           // which of them fails; 0: none
	bare     bool          // only the time that a sync takes is modelled: for benchmarks
	syncs    time.Duration // what a sync takes, where bare
	failNext string        // the next of this kind fails: "write" or "sync"
	failWith int32         // SQLite result
	failed   bool          // it has
	lying    bool          // syncs are reported and not done: the seeded bug that the tests must catch
	after    func(string)  // called after each, not under the lock
}

type diskFile struct {
	path    string
	durable []byte
	since   []diskWrite
	fresh   bool // made since its folder was synced; SQLite syncs the folder with the first sync of such a file
	deleted bool // since its folder was synced: it may come back
}

type diskWrite struct {
	at   int64
	data []byte // nil: truncated to at
}

const sector = 512

// pointer turns an address that SQLite gave us, outside Go's heap, into a pointer.
func pointer[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// function turns a Go function into a number that SQLite can hold; call turns one back.
func (d *disk) function(f any) uintptr {
	d.keep = append(d.keep, f)
	return (*(*[2]uintptr)(unsafe.Pointer(&f)))[1]
}

func call[F any](fp uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{fp})) }

type (
	openFunc   = func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	deleteFunc = func(*libc.TLS, uintptr, uintptr, int32) int32
	closeFunc  = func(*libc.TLS, uintptr) int32
	writeFunc  = func(*libc.TLS, uintptr, uintptr, int32, int64) int32
	truncFunc  = func(*libc.TLS, uintptr, int64) int32
	syncFunc   = func(*libc.TLS, uintptr, int32) int32
)

// own is SQLite's own file system as it is before any of ours is registered, which writes to it.
var own = sync.OnceValue(func() *lib.Tsqlite3_vfs {
	tls := libc.NewTLS()
	defer tls.Close()
	base := lib.Xsqlite3_vfs_find(tls, 0)
	if base == 0 {
		return nil
	}
	vfs := *pointer[lib.Tsqlite3_vfs](base)
	return &vfs
})

// newDisk registers a file system under a name of its own.
func newDisk(name string) (*disk, error) {
	base := own()
	if base == nil {
		return nil, errors.New("SQLite has no file system")
	}
	d := &disk{name: name, tls: libc.NewTLS(), files: map[string]*diskFile{}, handles: map[uintptr]*diskFile{},
		real: map[uintptr]*lib.Tsqlite3_io_methods{}, methods: map[uintptr]uintptr{}}
	d.vfs = libc.Xmalloc(d.tls, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_vfs{})))
	zName, err := libc.CString(name)
	if err != nil {
		return nil, err
	}
	ours := pointer[lib.Tsqlite3_vfs](d.vfs)
	*ours = *base
	ours.FpNext, ours.FzName = 0, zName
	realOpen := call[openFunc](ours.FxOpen)
	ours.FxOpen = d.function(openFunc(func(tls *libc.TLS, vfs, zPath, file uintptr, flags int32, out uintptr) int32 {
		path := libc.GoString(zPath)
		_, err := os.Stat(path)
		rc := realOpen(tls, vfs, zPath, file, flags, out)
		if rc == lib.SQLITE_OK && path != "" {
			d.opened(tls, path, err != nil, file)
		}
		return rc
	}))
	realDelete := call[deleteFunc](ours.FxDelete)
	ours.FxDelete = d.function(deleteFunc(func(tls *libc.TLS, vfs, zPath uintptr, syncFolder int32) int32 {
		rc := realDelete(tls, vfs, zPath, syncFolder)
		d.mu.Lock()
		defer d.mu.Unlock()
		if f := d.files[libc.GoString(zPath)]; rc == lib.SQLITE_OK && f != nil {
			f.deleted = true
			if syncFolder != 0 {
				d.syncFolder()
			}
		}
		return rc
	}))
	if rc := lib.Xsqlite3_vfs_register(d.tls, d.vfs, 0); rc != lib.SQLITE_OK {
		return nil, fmt.Errorf("SQLite result %d", rc)
	}
	return d, nil
}

func (d *disk) close() { lib.Xsqlite3_vfs_unregister(d.tls, d.vfs); d.tls.Close() }

// syncFolder makes it final which files there are. The caller holds the lock.
func (d *disk) syncFolder() {
	for path, f := range d.files {
		f.fresh = false
		if f.deleted {
			delete(d.files, path)
		}
	}
}

// opened puts our methods in front of the real ones.
func (d *disk) opened(tls *libc.TLS, path string, fresh bool, file uintptr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	if d.bare {
		f = &diskFile{path: path}
		d.files[path] = f
	}
	if f == nil || f.deleted {
		content, err := os.ReadFile(path)
		if err != nil {
			panic("a file that was just opened cannot be read")
		}
		f = &diskFile{path: path, durable: content, fresh: fresh}
		d.files[path] = f
	}
	methods := pointer[uintptr](file)
	d.handles[file] = f
	if ours, ok := d.methods[*methods]; ok {
		*methods = ours
		return
	}
	real := *pointer[lib.Tsqlite3_io_methods](*methods)
	address := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(real)))
	ours := pointer[lib.Tsqlite3_io_methods](address)
	*ours = real
	ours.FxClose = d.function(closeFunc(func(tls *libc.TLS, file uintptr) int32 {
		d.mu.Lock()
		delete(d.handles, file)
		d.mu.Unlock()
		return call[closeFunc](real.FxClose)(tls, file)
	}))
	ours.FxWrite = d.function(writeFunc(func(tls *libc.TLS, file, buffer uintptr, n int32, at int64) int32 {
		return d.step(file, "write", func() int32 { return call[writeFunc](real.FxWrite)(tls, file, buffer, n, at) }, func(f *diskFile) {
			f.since = append(f.since, diskWrite{at, append([]byte{}, unsafe.Slice(pointer[byte](buffer), n)...)})
		})
	}))
	ours.FxTruncate = d.function(truncFunc(func(tls *libc.TLS, file uintptr, size int64) int32 {
		return d.step(file, "truncate", func() int32 { return call[truncFunc](real.FxTruncate)(tls, file, size) }, func(f *diskFile) {
			f.since = append(f.since, diskWrite{at: size})
		})
	}))
	ours.FxSync = d.function(syncFunc(func(tls *libc.TLS, file uintptr, flags int32) int32 {
		return d.step(file, "sync", func() int32 { return call[syncFunc](real.FxSync)(tls, file, flags) }, func(f *diskFile) {
			if d.lying {
				return
			}
			for _, w := range f.since {
				f.durable = w.apply(f.durable)
			}
			f.since = nil
			if f.fresh {
				d.syncFolder()
			}
		})
	}))
	d.methods[*methods] = address
	*methods = address
}

// step does one thing to a file and to what the disk holds of it, unless it is the one that fails.
func (d *disk) step(file uintptr, what string, really func() int32, model func(*diskFile)) int32 {
	if d.bare {
		rc := really()
		if what == "sync" {
			// The thread waits, as it does in a real sync: the runtime's own timers are a millisecond coarse.
			wait := syscall.NsecToTimespec(d.syncs.Nanoseconds())
			_ = syscall.Nanosleep(&wait, nil) // cut short by a signal, it is a faster sync
		}
		return rc
	}
	d.mu.Lock()
	f := d.handles[file]
	d.calls++
	fails := d.failAt != 0 && d.calls == d.failAt || d.failNext == what
	if fails {
		d.failNext = ""
	}
	d.failed = d.failed || fails
	if fails && what == "sync" {
		f.since = nil // the kernel drops what it could not write, and reports the next sync as good
	}
	d.mu.Unlock()
	if fails {
		if d.failWith == lib.SQLITE_FULL {
			return lib.SQLITE_FULL
		}
		return map[string]int32{"write": lib.SQLITE_IOERR_WRITE, "truncate": lib.SQLITE_IOERR_TRUNCATE, "sync": lib.SQLITE_IOERR_FSYNC}[what]
	}
	rc := really()
	d.mu.Lock()
	if rc == lib.SQLITE_OK {
		model(f)
	}
	after := d.after
	d.mu.Unlock()
	if after != nil {
		after(what)
	}
	return rc
}

func (w diskWrite) apply(to []byte) []byte {
	if w.data == nil {
		if int64(len(to)) > w.at {
			return append([]byte{}, to[:w.at]...)
		}
		return to
	}
	if need := int(w.at) + len(w.data); len(to) < need {
		to = append(to, make([]byte, need-len(to))...)
	}
	copy(to[w.at:], w.data)
	return to
}

// cut is what the disk holds if the power fails now, by file.
func (d *disk) cut(r *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]byte{}
	for path, f := range d.files {
		if f.deleted && r.IntN(2) == 0 || f.fresh && r.IntN(2) == 0 {
			continue
		}
		content := append([]byte{}, f.durable...)
		keep := r.IntN(4) // 0: nothing since the sync, 1: all of it, else a mixture
		for _, w := range f.since {
			switch {
			case keep == 0 || keep > 1 && r.IntN(2) == 0:
				continue
			case keep == 1 || w.data == nil:
				content = w.apply(content)
			default:
				for from := 0; from < len(w.data); from += sector {
					if r.IntN(8) > 0 {
						content = diskWrite{w.at + int64(from), w.data[from:min(from+sector, len(w.data))]}.apply(content)
					}
				}
			}
		}
		out[path] = content
	}
	return out
}

// write puts a cut's files under another folder and returns where the ledger is.
func writeCut(cut map[string][]byte, dir, path string) (string, error) {
	for from, content := range cut {
		if strings.HasSuffix(from, "-shm") {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(from)), content, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

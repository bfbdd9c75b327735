package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mycarerecord/mycarerecord/audit"
)

// schema is where the ledger's tables are.
const schema = "mycarerecord"

// use says what a connection is for.
type use int

const (
	forMigration use = iota // no time limits: a migration may take long
	forWriting              // one a process; it holds the lock on the replica's name
	forReading
)

// dialer makes connections that can be relied on.
type dialer struct {
	config  *pgx.ConnConfig
	timeout time.Duration
	replica string
	accept  string // Config.Cluster
	cluster string // where the ledger is; "" until join
	schema  int    // the migrations that this program knows
	named   uint32 // the server's process that holds the replica's name for us, or did
}

func newDialer(c Config) (dialer, error) {
	config, err := pgx.ParseConfig(c.Connection)
	if err != nil || c.Connection == "" {
		return dialer{}, refusal("the ledger's connection string cannot be read: give postgres://user@host/database, or what libpq takes") // pgx's text quotes it
	}
	hosts := []struct {
		name string
		safe bool
	}{{config.Host, config.TLSConfig != nil && !config.TLSConfig.InsecureSkipVerify}}
	for _, f := range config.Fallbacks {
		hosts = append(hosts, hosts[0])
		hosts[len(hosts)-1].name, hosts[len(hosts)-1].safe = f.Host, f.TLSConfig != nil && !f.TLSConfig.InsecureSkipVerify
	}
	for _, h := range hosts {
		ip := net.ParseIP(h.name)
		if !h.safe && h.name != "localhost" && !strings.HasPrefix(h.name, "/") && (ip == nil || !ip.IsLoopback()) {
			return dialer{}, refusal("the connection to a database on another machine must be encrypted, and the machine known by its certificate: sslmode=verify-full with sslrootcert")
		}
	}
	if config.ConnectTimeout == 0 || config.ConnectTimeout > c.Timeout {
		config.ConnectTimeout = c.Timeout
	}
	for name, value := range map[string]string{
		"application_name": "mycarerecord ledger", "search_path": schema + ", pg_catalog", "timezone": "UTC", "client_encoding": "UTF8",
		// A session whose client is gone must not hold the head row: it is looked for while it works, and ended while it waits.
		"client_connection_check_interval": "1000", "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
	} {
		config.RuntimeParams[name] = value
	}
	return dialer{config: config, timeout: c.Timeout, replica: c.Replica, accept: c.Cluster}, nil
}

// connect makes a connection and tests what it leads to.
func (d *dialer) connect(ctx context.Context, to use) (*pgx.Conn, error) {
	config := d.config.Copy()
	limit := strconv.FormatInt(d.timeout.Milliseconds(), 10)
	switch to {
	case forWriting:
		config.RuntimeParams["statement_timeout"], config.RuntimeParams["lock_timeout"] = limit, limit
		config.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(2*d.timeout.Milliseconds(), 10)
	case forReading:
		config.RuntimeParams["default_transaction_read_only"] = "on"
		config.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"
	case forMigration:
		config.RuntimeParams["lock_timeout"] = limit
	}
	ctx, cancel := context.WithTimeout(ctx, 2*d.timeout)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, refused(err)
	}
	if err = d.test(ctx, c, to); err == nil && to == forWriting {
		err = d.name(ctx, c)
	}
	if err != nil {
		d.close(c)
		return nil, err
	}
	return c, nil
}

// refused says why a connection was not made. What the driver says quotes the address, the user and the database.
func refused(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch {
		case strings.HasPrefix(e.Code, "28"):
			return refusal("the database does not let the ledger in: its user or password is not the right one")
		case e.Code == "3D000":
			return refusal("the ledger's database is not there: create it")
		}
		return reduce("connecting to the database", err)
	}
	return refusal("the database cannot be reached: it is down, its address is not the right one, or its certificate is not to be trusted")
}

func (d *dialer) close(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx) // the server ends a session whose client is gone
}

// settings are what a server must say of itself (L-8), and what it means if it does not.
var settings = []struct {
	name  string
	holds func(string) bool
	why   string
}{
	{"fsync", on, "the database runs with fsync off: what it acknowledges is lost with the power; switch it on"},
	{"full_page_writes", on, "the database runs with full_page_writes off: a loss of power can leave torn pages; switch it on"},
	{"synchronous_commit", func(v string) bool { return v == "on" || v == "remote_apply" }, "the database acknowledges commits before they are durable: set synchronous_commit to on, or remote_apply"},
}

func on(v string) bool { return v == "on" }

// weak says what is wrong with the values of settings, in their order; nil if nothing.
func weak(values []string) error {
	for i, s := range settings {
		if !s.holds(values[i]) {
			return refusal(s.why)
		}
	}
	return nil
}

// test refuses a server that could lose what it acknowledges, or that is not the one that the ledger is on.
func (d *dialer) test(ctx context.Context, c *pgx.Conn, to use) error {
	values := make([]string, len(settings))
	var follows bool
	var readOnly, encoding string
	var version int
	err := c.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), pg_is_in_recovery(),
		current_setting('default_transaction_read_only'), current_setting('server_encoding'), current_setting('server_version_num')::int`).
		Scan(&values[0], &values[1], &values[2], &follows, &readOnly, &encoding, &version)
	switch {
	case err != nil:
		return reduce("reading the database's settings back", err)
	case version < 140000:
		return refusal("the database is older than PostgreSQL 14: give the ledger a newer one")
	case follows:
		return refusal("the database is a standby: it may lag, and cannot write; give the primary")
	case readOnly == "on" && to != forReading:
		return refusal("the database is read-only: the ledger must write")
	}
	if err := weak(values); err != nil {
		return err
	}
	if d.cluster != "" {
		is, err := clusterOf(ctx, c)
		if err != nil {
			return err
		}
		if is != d.cluster {
			return fmt.Errorf("%w: the database was failed over while the ledger was open (from %s to %s): start anew", audit.ErrUnsound, d.cluster, is)
		}
	}
	return nil
}

// clusterOf names the cluster and its timeline, which is another one after each promotion and each restored backup.
func clusterOf(ctx context.Context, c *pgx.Conn) (string, error) {
	var system int64
	var segment string
	err := c.QueryRow(ctx, `SELECT system_identifier, pg_walfile_name(pg_current_wal_insert_lsn()) FROM pg_control_system()`).Scan(&system, &segment)
	if err != nil {
		return "", reduce("reading which cluster this is", err)
	}
	timeline, err := strconv.ParseUint(segment[:min(8, len(segment))], 16, 32)
	if err != nil {
		return "", refusal("reading which cluster this is: the name of its log is not what it should be")
	}
	return fmt.Sprintf("%d/%d", uint64(system), timeline), nil
}

// join finds out where the ledger is, and refuses another place than the one where it was last written, unless an operator accepted it.
func (d *dialer) join(ctx context.Context, c *pgx.Conn) error {
	is, err := clusterOf(ctx, c)
	if err != nil {
		return err
	}
	var was string
	err = c.QueryRow(ctx, `INSERT INTO cluster (one, name) VALUES (true, $1) ON CONFLICT (one) DO UPDATE SET name = cluster.name RETURNING name`, is).Scan(&was)
	if err != nil {
		return reduce("reading where the ledger was last written", err)
	}
	switch {
	case was == is:
	case d.accept != is:
		return refusal(fmt.Sprintf("the ledger was last written on cluster %s, and this is %s: it was failed over to a standby, restored or moved, and may lack what was acknowledged; "+
			"compare it with the last checkpoint that was seen, and then accept it by setting the ledger's cluster to %s", was, is, is))
	default:
		if _, err := c.Exec(ctx, `UPDATE cluster SET name = $1`, is); err != nil {
			return reduce("noting where the ledger is", err)
		}
	}
	d.cluster = is
	return nil
}

// name makes this process the only one of its name, for as long as the connection lives. A session of our own that was lost, and that the server does not
// know to be lost, is ended first: it may hold the name, and the head row.
func (d *dialer) name(ctx context.Context, c *pgx.Conn) error {
	sum := sha256.Sum256([]byte("mycarerecord replica\x00" + d.replica))
	high, low := binary.BigEndian.Uint32(sum[:4]), binary.BigEndian.Uint32(sum[4:8])
	if d.named != 0 {
		const end = `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid = $1 AND classid = $2 AND objid = $3 AND objsubid = 1
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
		if _, err := c.Exec(ctx, end, d.named, high, low); err != nil {
			return reduce("ending a session that was lost", err)
		}
	}
	_, err := c.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(uint64(high)<<32|uint64(low)))
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == "55P03" || e.Code == "57014") {
		return refusal("another process writes the ledger under this replica's name: each must have its own")
	}
	d.named = c.PgConn().PID()
	return reduce("taking the replica's name", err)
}

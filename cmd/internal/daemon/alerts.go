package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/mycarerecord/mycarerecord/audit"
	"github.com/mycarerecord/mycarerecord/broker/record"
)

// The pace of the sender: it looks for alerts this often, and after a failure waits twice as long each time, up to the configured longest pause.
const (
	alertPoll = time.Second
	alertPage = 100 // alerts read at a time
)

// alertBook is where alerts wait. The ledger is one.
type alertBook interface {
	PendingAlerts(ctx context.Context, from uint64, limit int) ([]audit.AlertRow, error)
	AlertDelivered(ctx context.Context, position uint64) error
	AboutOfficer(ctx context.Context, position uint64, officer func(record.Requester) bool) (bool, error)
}

var _ alertBook = (*audit.Ledger)(nil)

// alertSender tells a webhook of every use of break-glass (C-3). What it sends holds the entry's position and nothing else: what it was, who and
// why is for those who may search the ledger. It tries until the webhook acknowledges with a 2xx, over restarts too, and notes that durably; no
// request waits for it. A receiver may be told twice, by two replicas or after a crash, and knows an alert again by its position. Of alerts that rules raised about
// those who read alerts it tells nobody, as the mail does not: who reads what it sends must not learn there that there is one about themselves. The worklist has them, for
// the others, and they stay undelivered.
type alertSender struct {
	book    alertBook
	officer func(record.Requester) bool // whether somebody is of those who read alerts
	url     string
	token   string
	client  *http.Client
	poll    time.Duration
	longest time.Duration // pause between tries
	log     *slog.Logger
	waiting atomic.Int64 // alerts that the last round found and could not deliver
}

func newAlertSender(c Alerts, book alertBook, officer func(record.Requester) bool, meters metric.MeterProvider, log *slog.Logger) (*alertSender, error) {
	s := &alertSender{book: book, officer: officer, url: c.Webhook, poll: alertPoll, longest: time.Duration(c.Pause), log: log}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TokenFile != "" {
		text, err := readCapped(c.TokenFile)
		if s.token = strings.TrimSpace(string(text)); err != nil || s.token == "" || strings.ContainsAny(s.token, " \t\r\n") {
			return nil, errors.New("alerts.tokenFile: it must be a readable file with one token")
		}
	}
	if c.CA != "" {
		pem, err := readCapped(c.CA)
		if trust.RootCAs = x509.NewCertPool(); err != nil || !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("alerts.ca: no certificate can be read from it")
		}
	}
	s.client = &http.Client{
		Timeout: time.Duration(c.Timeout),
		Transport: &http.Transport{TLSClientConfig: trust, TLSHandshakeTimeout: time.Duration(c.Timeout), ResponseHeaderTimeout: time.Duration(c.Timeout),
			MaxResponseHeaderBytes: 16 << 10, IdleConnTimeout: time.Minute, MaxConnsPerHost: 1, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // another address would get what is meant for this one
	}
	if meters == nil {
		return s, nil
	}
	gauge, err := meters.Meter("alerts").Int64ObservableGauge("mycarerecord.alerts.waiting",
		metric.WithDescription("break-glass alerts that the webhook has not acknowledged, as the last round found them"))
	if err == nil {
		_, err = meters.Meter("alerts").RegisterCallback(func(_ context.Context, o metric.Observer) error {
			o.ObserveInt64(gauge, s.waiting.Load())
			return nil
		}, gauge)
	}
	if err != nil {
		return nil, errors.New("telemetry: the gauge of alerts cannot be set up")
	}
	return s, nil
}

// run sends until ctx ends.
func (s *alertSender) run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	from, pause := uint64(0), s.poll
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next, left, err := s.round(ctx, from)
		from = next
		s.waiting.Store(int64(left))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = min(2*pause, s.longest)
			s.log.Warn("alerts of break-glass could not be delivered; they are tried again", "problem", err.Error(), "count", left)
		default:
			pause = s.poll
		}
		timer.Reset(pause)
	}
}

// What a round may fail for. The texts go into the log, so they are these and no others.
var (
	errBook        = errors.New("the ledger did not answer")
	errUnreachable = errors.New("the webhook could not be reached, or did not answer in time")
	errRefused     = errors.New("the webhook did not acknowledge")
	errUntold      = errors.New("the ledger cannot tell whom an alert is about, and it was not sent: the ledger is damaged")
)

// round tries every alert that waits from a position on, once each and in order, a page at a time. It returns where the next round begins: at the first that
// still waits. One that the webhook refuses, or that is damaged, does not hold up the others, however many they are; a webhook that cannot be reached ends the round.
func (s *alertSender) round(ctx context.Context, from uint64) (next uint64, left int, err error) {
	next = from
	for page := from; ; {
		rows, failure := s.book.PendingAlerts(ctx, page, alertPage)
		if failure != nil {
			return next, left, errBook
		}
		for i, row := range rows {
			hidden, failure := s.book.AboutOfficer(ctx, row.Position, s.officer)
			switch {
			case errors.Is(failure, audit.ErrDamaged):
				failure = errUntold
			case failure != nil:
				return next, left + len(rows) - i, errBook
			case !hidden:
				failure = s.post(ctx, row)
			}
			if failure == nil && !hidden && s.book.AlertDelivered(ctx, row.Position) != nil {
				failure = errBook // it is sent again: twice is better than never
			}
			page = row.Position + 1
			if failure == nil {
				if left == 0 {
					next = page
				}
				continue
			}
			left, err = left+1, failure
			if !errors.Is(failure, errRefused) && !errors.Is(failure, errUntold) {
				return next, left + len(rows) - i - 1, err
			}
		}
		if len(rows) < alertPage {
			return next, left, err
		}
	}
}

// post sends one alert.
func (s *alertSender) post(ctx context.Context, row audit.AlertRow) error {
	body, err := json.Marshal(struct {
		Position uint64 `json:"position"`
	}{row.Position})
	if err != nil {
		panic(fmt.Sprintf("a position cannot be written: %T", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return errUnreachable
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mycarerecord")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return errUnreachable
	}
	defer func() { _ = resp.Body.Close() }() // what it says beyond its status is nothing to us
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return errRefused
	}
	return nil
}

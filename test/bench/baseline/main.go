// Command baseline is what the broker is compared with: two small servers that ask the same five custodians.
//
//	baseline -kind floor -custodians URL,URL,…   fan out over net/http and pass the bytes on unread
//	baseline -kind easy  -custodians URL,URL,…   decode into typed FHIR structs, sort by date, encode: what one writes in an afternoon
//
// GET /record/{id} answers about a person by their id at the custodians. Neither knows consent, ledger, breaker or callers. GET /metrics
// says how many objects the process has allocated. The first line on standard output says where it listens. It serves loopback only, and
// ends with its standard input.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/metrics"
	"strings"
	"time"
)

func main() {
	kind := flag.String("kind", "floor", "floor or easy")
	custodians := flag.String("custodians", "", "base addresses of the custodians' FHIR servers, separated by commas")
	calls := flag.Int("calls", 1, "floor only: calls to each custodian, one after the other; 2 first finds the person, as the broker must")
	flag.Parse()
	s := &server{bases: strings.Split(*custodians, ","), find: *calls == 2, client: &http.Client{Transport: transport()}}
	mux := http.NewServeMux()
	switch *kind {
	case "floor":
		mux.HandleFunc("GET /record/{id}", s.floor)
	case "easy":
		mux.HandleFunc("GET /record/{id}", s.easy)
	default:
		fmt.Fprintln(os.Stderr, "baseline: -kind is floor or easy")
		os.Exit(2)
	}
	mux.HandleFunc("GET /metrics", allocations)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "baseline: cannot listen on loopback")
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whoever started it has left
		os.Exit(0)
	}()
	fmt.Println("http://" + l.Addr().String())
	fmt.Fprintln(os.Stderr, "baseline:", (&http.Server{Handler: mux, ReadHeaderTimeout: 2 * time.Second}).Serve(l))
	os.Exit(1)
}

// transport has as many connections as the broker has (adapters/internal/wire).
func transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	const connections = 64
	return &http.Transport{Protocols: &protocols, DisableCompression: true, MaxIdleConns: 5 * connections, MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		IdleConnTimeout: 30 * time.Second}
}

// custodianTime is how long a custodian may take: the broker's default.
const custodianTime = 3 * time.Second

type server struct {
	bases  []string
	find   bool
	client *http.Client
}

// ask opens one custodian's answer. The caller closes it.
func (s *server) ask(ctx context.Context, base string, r *http.Request) (*http.Response, error) {
	if s.find {
		res, err := s.send(ctx, http.MethodPost, base+"/Patient/_search", strings.NewReader("identifier=https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C"+r.Header.Get("X-Person")), r)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close() // read to its end, or broken
		if err != nil {
			return nil, err
		}
	}
	return s.send(ctx, http.MethodGet, base+"/Patient/"+r.PathValue("id")+"/$everything", nil, r)
}

func (s *server) send(ctx context.Context, method, address string, body io.Reader, r *http.Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/fhir+json")
	req.Header.Set("X-Request-ID", r.Header.Get("X-Request-ID"))
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	return res, nil
}

// floor asks all custodians at once and passes on what each says, unread, as it comes. One that does not answer in time is left out.
func (s *server) floor(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), custodianTime)
	defer cancel()
	answers := make(chan *http.Response, len(s.bases))
	for _, base := range s.bases {
		go func() {
			res, _ := s.ask(ctx, base, r)
			answers <- res
		}()
	}
	w.Header().Set("Content-Type", "application/json")
	separator := "["
	for range s.bases {
		res := <-answers
		if res == nil {
			continue
		}
		_, _ = io.WriteString(w, separator)
		separator = ","
		_, err := io.Copy(w, res.Body)
		_ = res.Body.Close()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if separator == "[" {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_, _ = io.WriteString(w, "]")
}

// allocations answers in the manner of the Go collector of a Prometheus client.
func allocations(w http.ResponseWriter, _ *http.Request) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	_, _ = fmt.Fprintf(w, "go_memstats_mallocs_total %d\ngo_memstats_alloc_bytes_total %d\n", samples[0].Value.Uint64(), samples[1].Value.Uint64())
}

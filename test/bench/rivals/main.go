// Command rivals is an API gateway of the kind that would otherwise be put in front of the custodians: github.com/luraproject/lura, the engine
// of KrakenD, which asks the same five custodians and merges their answers under one key each. It knows no consent, ledger or callers.
//
//	rivals -custodians URL,URL,…
//
// It is used like test/bench/baseline: GET /record/{id}, GET /metrics, the first line says where it listens, and it ends with its standard
// input. It is a module of its own, so that nothing of it is among the product's dependencies.
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

	"github.com/gin-gonic/gin"
	"github.com/luraproject/lura/v2/config"
	"github.com/luraproject/lura/v2/encoding"
	"github.com/luraproject/lura/v2/logging"
	"github.com/luraproject/lura/v2/proxy"
	luragin "github.com/luraproject/lura/v2/router/gin"
)

func main() {
	custodians := flag.String("custodians", "", "base addresses of the custodians' FHIR servers, separated by commas")
	flag.Parse()
	const timeout, connections = 3 * time.Second, 64
	endpoint := &config.EndpointConfig{Endpoint: "/record/{id}", Method: http.MethodGet, Timeout: timeout, HeadersToPass: []string{"X-Request-Id"}}
	for i, base := range strings.Split(*custodians, ",") {
		host, path, _ := strings.Cut(strings.TrimPrefix(base, "http://"), "/")
		endpoint.Backend = append(endpoint.Backend, &config.Backend{Host: []string{"http://" + host}, URLPattern: "/" + path + "/Patient/{id}/$everything", Method: http.MethodGet,
			Encoding: encoding.JSON, Group: fmt.Sprintf("custodian%d", i+1), Timeout: timeout})
	}
	cfg := config.ServiceConfig{Name: "bench", Version: config.ConfigVersion, Timeout: timeout, Endpoints: []*config.EndpointConfig{endpoint}, DisableCompression: true,
		MaxIdleConns: 5 * connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: 30 * time.Second, DialerTimeout: 5 * time.Second}
	if err := cfg.Init(); err != nil {
		fail("the gateway's configuration is refused: " + err.Error())
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/metrics", func(c *gin.Context) { allocations(c.Writer) })
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whoever started it has left
		os.Exit(0)
	}()
	luragin.NewFactory(luragin.Config{Engine: engine, HandlerFactory: luragin.EndpointHandler, ProxyFactory: proxy.DefaultFactory(logging.NoOp), Logger: logging.NoOp,
		RunServer: func(_ context.Context, _ config.ServiceConfig, h http.Handler) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				fail("cannot listen on loopback")
			}
			fmt.Println("http://" + l.Addr().String())
			return (&http.Server{Handler: h, ReadHeaderTimeout: 2 * time.Second}).Serve(l)
		}}).New().Run(cfg)
	fail("the gateway stopped")
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "rivals:", text)
	os.Exit(1)
}

// allocations answers in the manner of the Go collector of a Prometheus client.
func allocations(w io.Writer) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	_, _ = fmt.Fprintf(w, "go_memstats_mallocs_total %d\ngo_memstats_alloc_bytes_total %d\n", samples[0].Value.Uint64(), samples[1].Value.Uint64())
}

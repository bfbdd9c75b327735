package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// telemetry is what leaves the process for operators: spans and metrics that the broker makes, with keys from its list only. No library
// instruments our transports or clients: those put addresses, and so NHS numbers, into attributes.
type telemetry struct {
	traces   *sdktrace.TracerProvider
	meters   *sdkmetric.MeterProvider
	registry *prometheus.Registry
}

func startTelemetry(ctx context.Context, cfg Telemetry, extra []sdktrace.SpanExporter, log *slog.Logger) (*telemetry, error) {
	// The SDK's own default prints other people's texts to standard error.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { log.Warn("telemetry cannot be exported", "problem", "telemetry") }))
	t := &telemetry{registry: prometheus.NewRegistry()}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(t.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, errors.New("telemetry: metrics cannot be set up")
	}
	t.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	var options []sdktrace.TracerProviderOption
	if cfg.OTLP != "" {
		otlp := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(cfg.OTLP)}
		if cfg.OTLPInsecure {
			otlp = append(otlp, otlptracegrpc.WithInsecure())
		}
		spans, err := otlptracegrpc.New(ctx, otlp...)
		if err != nil {
			return nil, errors.New("telemetry.otlp: the exporter cannot be set up")
		}
		options = append(options, sdktrace.WithBatcher(spans))
	}
	for _, e := range extra {
		options = append(options, sdktrace.WithSyncer(e))
	}
	if len(options) == 0 {
		// Nobody takes spans: none are made, and custodians that are sent a traceparent are told so by its flag.
		options = append(options, sdktrace.WithSampler(sdktrace.NeverSample()))
	}
	t.traces = sdktrace.NewTracerProvider(options...)
	return t, nil
}

func (t *telemetry) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = t.traces.Shutdown(ctx) // spans are a convenience: losing the last ones loses no duty
	_ = t.meters.Shutdown(ctx)
}

// operations serves what a supervisor and a metrics collector ask.
func (t *telemetry) operations(ready func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 5 * time.Second}))
	return mux
}

// traceContext takes the caller's traceparent in; never baggage.
func (t *telemetry) traceContext(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))))
	})
}

// grpcOptions does the same for gRPC.
func (t *telemetry) grpcOptions() []grpc.ServerOption {
	extract := func(ctx context.Context) context.Context {
		carrier := propagation.MapCarrier{}
		if md, ok := metadata.FromIncomingContext(ctx); ok {
			for _, k := range []string{"traceparent", "tracestate"} {
				if v := md.Get(k); len(v) > 0 {
					carrier[k] = v[0]
				}
			}
		}
		return propagation.TraceContext{}.Extract(ctx, carrier)
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			return h(extract(ctx), req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			return h(srv, &tracedStream{ss, extract(ss.Context())})
		}),
	}
}

type tracedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the stream's context with the caller's trace.
func (s *tracedStream) Context() context.Context { return s.ctx }

// quiet swallows what net/http would log: its lines may hold addresses and pieces of requests. What matters of them is in the metrics.
type quiet struct{}

// Enabled implements slog.Handler.
func (quiet) Enabled(context.Context, slog.Level) bool { return false }

// Handle implements slog.Handler.
func (quiet) Handle(context.Context, slog.Record) error { return nil }

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs([]slog.Attr) slog.Handler { return q }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(string) slog.Handler { return q }

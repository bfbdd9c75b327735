package grpcapi

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mycarerecord/mycarerecord/broker"
	"github.com/mycarerecord/mycarerecord/broker/record"
	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// domain is that of every ErrorInfo.
const domain = "mycarerecord"

// row is what one kind of trouble is on the wire. The text is fixed: kinds cross the wire, texts do not.
type row struct {
	code   codes.Code
	reason string // of google.rpc.ErrorInfo
	text   string
}

// byKind is the one table from the broker's kinds (design section 3, "Answers to a whole request").
var byKind = map[broker.Kind]row{
	broker.Invalid:    rowInvalid,
	broker.Suppressed: {codes.PermissionDenied, "SUPPRESSED", "the person has objected to their record being shared: ask them, or ring the custodians named in the details"},
	broker.Forbidden:  {codes.PermissionDenied, "FORBIDDEN", "not permitted: the details name the rule"},
	broker.NotFound:   {codes.NotFound, "NOT_FOUND", "no record can be shown for these details: check them, trace the person again, or ring the organisations concerned"},
	broker.Transient:  {codes.Unavailable, "TRANSIENT", "no answer can be given now: ask again shortly; the details say which custodians are in trouble, if any"},
	broker.Overloaded: {codes.Unavailable, "OVERLOADED", "too many requests are in progress: ask again shortly"},
	broker.OutOfTime:  {codes.DeadlineExceeded, "TIMEOUT", "too little time was left to ask anybody: allow more"},
	broker.UseStream:  {codes.ResourceExhausted, "USE_STREAM", "the answer is too large for one message: call StreamRecord, or ask for less"},
	broker.Gone:       rowGone,
}

// What the transport itself refuses.
var (
	rowInvalid         = row{codes.InvalidArgument, "INVALID", "the request cannot be read"}
	rowUndecodable     = row{codes.InvalidArgument, "INVALID", "the message is none of this method's: it breaks off, or holds text that is not UTF-8; take the interface of this version"}
	rowUnauthenticated = row{codes.Unauthenticated, "UNAUTHENTICATED", "no token, or one that is not accepted: sign in, and send it as authorization: Bearer TOKEN"}
	rowExpired         = row{codes.Unauthenticated, "EXPIRED", "the token has expired: sign in again"}
	rowKeys            = row{codes.Unavailable, "TRANSIENT", "the token cannot be checked now: ask again shortly"}
	rowThrottled       = row{codes.ResourceExhausted, "THROTTLED", "too many requests from this caller: ask again later"}
	rowGone            = row{codes.Canceled, "CANCELLED", "the caller left"}
	rowNoMethod        = row{codes.Unimplemented, "UNIMPLEMENTED", "no such method"}
	rowInternal        = row{codes.Internal, "INTERNAL", "a fault of ours: it has been logged"}
)

// fail returns a row as an error, with details.
func fail(r row, details ...protoadapt.MessageV1) error {
	return failWith(r, nil, details...)
}

func failWith(r row, metadata map[string]string, details ...protoadapt.MessageV1) error {
	all := append([]protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: r.reason, Domain: domain, Metadata: metadata})}, details...)
	s, err := status.New(r.code, r.text).WithDetails(all...)
	if err != nil {
		return status.Error(r.code, r.text)
	}
	return s.Err()
}

// refusal turns an error of the broker into a status.
func refusal(err error) error {
	var r *broker.Refusal
	if !errors.As(err, &r) {
		return fail(rowInternal)
	}
	to, known := byKind[r.Kind]
	if !known {
		return fail(rowInternal)
	}
	metadata := map[string]string{}
	if r.Kind != broker.NotFound { // the neutral answer gives no reason
		if r.Rule != "" {
			metadata["rule"] = r.Rule
		}
		if r.Reason != "" {
			metadata["why"] = string(r.Reason)
		}
		if e := r.Explanation; e.Text != "" {
			metadata["explanation"] = e.Text
			if e.Preference != 0 {
				metadata["preference"] = strconv.FormatUint(e.Preference, 10)
			}
			if !e.Recorded.IsZero() {
				metadata["recorded"] = e.Recorded.UTC().Format(time.RFC3339)
			}
		}
	}
	var details []protoadapt.MessageV1
	if r.Field != "" {
		var p problems
		field, want, _ := strings.Cut(r.Field, ": ")
		p.add(field, want)
		details, to.text = append(details, p.detail()), p.text()
	}
	details = append(details, retry(r.RetryAfter)...)
	if len(r.Statuses) > 0 {
		details = append(details, protoadapt.MessageV1Of(statusesThatFit(r.Statuses)))
	}
	if m := receipt(r.Receipt); m != nil && r.Kind != broker.NotFound { // a neutral answer's position would tell its class
		details = append(details, protoadapt.MessageV1Of(m))
	}
	return failWith(to, metadata, details...)
}

// retry is the detail that says when to ask again, none for 0.
func retry(after time.Duration) []protoadapt.MessageV1 {
	if after <= 0 {
		return nil
	}
	return []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})}
}

// statusesThatFit makes the detail of custodians' states. Those in trouble come first where not all fit.
func statusesThatFit(list []record.Status) *v1.CustodianStatuses {
	out, size := &v1.CustodianStatuses{}, 0
	for _, trouble := range []bool{true, false} {
		for _, s := range list {
			if s.State.InTrouble() != trouble {
				continue
			}
			m := custodianStatus(s)
			if size += proto.Size(m); size > maxDetails {
				out.LeftOut++
				continue
			}
			out.Custodians = append(out.Custodians, m)
		}
	}
	return out
}

// problems collects what is wrong with the fields of a request: which field, and what to give. Never what was given.
type problems []*errdetails.BadRequest_FieldViolation

func (p *problems) add(field, want string) {
	*p = append(*p, &errdetails.BadRequest_FieldViolation{Field: field, Description: want})
}

func (p problems) detail() protoadapt.MessageV1 {
	return protoadapt.MessageV1Of(&errdetails.BadRequest{FieldViolations: p})
}

func (p problems) text() string {
	parts := make([]string, len(p))
	for i, v := range p {
		parts[i] = v.Field + ": " + v.Description
	}
	return strings.Join(parts, "; ")
}

// err returns INVALID_ARGUMENT with all problems, nil for none.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	r := rowInvalid
	r.text = p.text()
	return unreadError{fail(r, p.detail())}
}

// unreadError is the status of a call that could not be read as a request: the broker has not seen it.
type unreadError struct{ error }

// GRPCStatus makes it the status that it wraps.
func (e unreadError) GRPCStatus() *status.Status { return status.Convert(e.error) }

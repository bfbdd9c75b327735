package simulator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	v1 "github.com/mycarerecord/mycarerecord/proto/mycarerecord/v1"
)

// Wish is something that a person does not want shown, as somebody at a desk writes it down.
type Wish struct {
	Number, BirthDate string
	Scope             string // all, custodian or section
	Custodian         string // key, for scope custodian
	Section           string // code, for scope section
	Reason            string
}

// RecordWishes records objections with a broker on this machine, over its ConsentService, in the name of the token's bearer. Doing it again
// changes nothing: each wish has a key of its own. The error names the kind of trouble and nothing of a person.
func RecordWishes(ctx context.Context, address, token string, wishes []Wish) error {
	if len(wishes) == 0 {
		return nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return errors.New("simulator: no gRPC client for " + address)
	}
	defer func() { _ = conn.Close() }() // nothing is on its way any more
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	desk := v1.NewConsentServiceClient(conn)
	for n, w := range wishes {
		key := sha256.Sum256([]byte(strings.Join([]string{"wish", w.Number, w.Scope, w.Custodian, w.Section}, "|")))
		in := &v1.RecordObjectionRequest{NhsNumber: w.Number, BirthDate: w.BirthDate, Method: v1.ObjectionMethod_OBJECTION_METHOD_FORM, Reason: w.Reason, Key: hex.EncodeToString(key[:16])}
		switch w.Scope {
		case "all":
			in.Scope = v1.ObjectionScope_OBJECTION_SCOPE_ALL
		case "custodian":
			in.Scope, in.Custodian = v1.ObjectionScope_OBJECTION_SCOPE_CUSTODIAN, w.Custodian
		case "section":
			in.Scope = v1.ObjectionScope_OBJECTION_SCOPE_SECTION
			in.Section = v1.Section(v1.Section_value["SECTION_"+strings.ToUpper(strings.ReplaceAll(w.Section, "-", "_"))])
		}
		if _, err := desk.RecordObjection(ctx, in); err != nil {
			return fmt.Errorf("simulator: objection %d of %d was not recorded: %s", n+1, len(wishes), status.Code(err))
		}
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// login signs in: with a persona of the demo's issuer, or with a token that the user has.
func (a *app) login(ctx context.Context, c *call) error {
	var as, issuer, file, number, ttl string
	var launch bool
	var at session
	c.flags.StringVar(&as, "as", "", "`persona` of the demo: gp, ed-doctor, mh-nurse, social-worker, pharmacist, front-desk, ig-officer, engine, patient, stranger")
	c.flags.StringVar(&issuer, "issuer", "http://127.0.0.1:8090", "`address` of the demo's token issuer")
	c.flags.StringVar(&file, "token-file", "", "`file` that holds a token of your own; - for standard input")
	c.flags.StringVar(&number, "nhs-number", "", "the person whose token it is (persona patient), or about whom the launch is; - for standard input")
	c.flags.StringVar(&at.Stated.Purpose, "purpose", "", "what your requests state unless they say otherwise: the purpose; a demo persona has one of its own")
	c.flags.StringVar(&at.Stated.Permission, "permission", "", "the same: the permission")
	c.flags.StringVar(&at.Stated.Relationship, "relationship", "", "the same: the relationship")
	c.flags.BoolVar(&launch, "launch", false, "with -as: the token itself states them, and -nhs-number, as a launch from a record system does; requests must then agree")
	addressFlags(c.flags, &at.Server, &at.CA, &at.Cert, &at.Key)
	c.flags.StringVar(&ttl, "ttl", "", "how long the token lives, such as 10m")
	if err := c.parse(0); err != nil {
		return err
	}
	if (as == "") == (file == "") {
		return useError("mcr login takes -as PERSONA or -token-file FILE, one of the two")
	}
	if _, err := readPurpose(at.Stated.Purpose); err != nil {
		return err
	}
	if _, err := readPermission(at.Stated.Permission); err != nil {
		return err
	}
	if _, err := readRelationship(at.Stated.Relationship); err != nil {
		return err
	}
	own := personas[as]
	if at.Stated == (stated{}) {
		at.Stated = own
	}
	if at.Stated.Purpose == "" { // what for, a persona's job says; what the person said, and how they are known, only what was given with it
		at.Stated.Purpose = own.Purpose
	}
	for _, file := range []*string{&at.CA, &at.Cert, &at.Key} {
		if *file == "" {
			continue
		}
		whole, err := filepath.Abs(*file)
		if err != nil {
			return useError("a file has no whole path: " + safe(*file))
		}
		*file = whole
	}
	var token string
	var err error
	switch file {
	case "":
		form := url.Values{"as": {as}}
		var inToken stated
		if launch {
			inToken = at.Stated
		}
		if number, err = a.number(number); err != nil {
			return err
		}
		for name, v := range map[string]string{"nhs_number": number, "purpose": inToken.Purpose, "permission": inToken.Permission, "relationship": inToken.Relationship, "ttl": ttl} {
			if v != "" {
				form.Set(name, v)
			}
		}
		token, err = fetchToken(ctx, issuer, form)
	case "-":
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(a.in, maxToken+1)); err == nil {
			token = strings.TrimSpace(string(text))
		}
		if err != nil || len(text) > maxToken || !looksSigned(token) {
			err = useError("standard input does not hold a signed token (three parts with dots between them)")
		}
	default:
		token, err = readToken(file)
	}
	if err != nil {
		return err
	}
	path, err := a.keep(token, at)
	if err != nil {
		return err
	}
	if as != "" {
		a.say("Signed in as %s.\n", safe(as))
	} else {
		a.say("Signed in.\n")
	}
	if said := nonEmpty([]string{safe(at.Stated.Purpose), safe(at.Stated.Permission), safe(at.Stated.Relationship)}); len(said) > 0 {
		a.say("Unless they say otherwise, your requests will state: %s.\n", strings.Join(said, ", "))
	}
	a.say("The token is in %s, readable by you only; mcr logout removes it.\n", safe(path))
	return nil
}

// session is what was said at sign-in, and holds until a call says otherwise.
type session struct {
	Server string `json:"server,omitempty"` // host:port
	CA     string `json:"ca,omitempty"`     // files, by their whole path
	Cert   string `json:"cert,omitempty"`
	Key    string `json:"key,omitempty"`
	Stated stated `json:"stated"`
}

// stated is what requests state.
type stated struct {
	Purpose      string `json:"purpose,omitempty"`
	Permission   string `json:"permission,omitempty"`
	Relationship string `json:"relationship,omitempty"`
}

// personas are what the demo's invented people would state, so that it can be tried without learning the flags first. Nobody else has
// statements made for them: whether a person was asked, and what they said, only who asked can know.
var personas = map[string]stated{
	"gp": {"TREAT", "asked-yes", "registered"}, "ed-doctor": {"TREAT", "asked-yes", "attendance"}, "mh-nurse": {"TREAT", "asked-yes", "caseload"},
	"social-worker": {"TREAT", "asked-yes", "caseload"}, "pharmacist": {"TREAT", "asked-yes", "attendance"}, "patient": {"PATRQT", "patient-self", ""},
}

// logout forgets the token.
func (a *app) logout(_ context.Context, c *call) error {
	if err := c.parse(0); err != nil {
		return err
	}
	path, err := a.tokenPath()
	if err != nil {
		return err
	}
	switch err := errors.Join(remove(a.sessionPath()), os.Remove(path)); {
	case err == nil:
		a.say("Signed out.\n")
	case errors.Is(err, os.ErrNotExist):
		a.say("You were not signed in.\n")
	default:
		return useError("the token file cannot be removed: " + safe(path))
	}
	return nil
}

// remove removes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// keep writes the token, and what was said at sign-in, where only the user can read it.
func (a *app) keep(token string, at session) (string, error) {
	path, err := a.tokenPath()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(at)
	if err == nil {
		err = errors.Join(os.MkdirAll(a.configDir, 0o700), remove(path)) // no token with the session of another
	}
	if err == nil {
		err = writeWhole(a.sessionPath(), text)
	}
	if err == nil {
		err = writeWhole(path, []byte(token))
	}
	if err != nil {
		return "", useError("the token cannot be kept in " + safe(filepath.Dir(path)) + ": may you write there?")
	}
	return path, nil
}

// writeWhole writes a file that only the user can read, whole or not at all.
func writeWhole(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (a *app) sessionPath() string { return filepath.Join(a.configDir, "session.json") }

// session returns what was said at sign-in, nothing if that cannot be read.
func (a *app) session() session {
	var at session
	text, err := readFile(a.sessionPath(), 8<<10)
	if err != nil || json.Unmarshal(text, &at) != nil {
		return session{}
	}
	return at
}

// fetchToken asks the demo's issuer. An NHS number goes in the body, never in the address.
func fetchToken(ctx context.Context, issuer string, form url.Values) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", useError("-issuer: give an address such as http://127.0.0.1:8090")
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return "", useError("-issuer: http is for this machine only; give an https address")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(issuer, "/")+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", useError("-issuer: give an address such as http://127.0.0.1:8090")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return "", faultError("the issuer at " + safe(u.Host) + " does not answer: is the demo running (make run)? -issuer names another")
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxToken+1))
	switch {
	case err != nil || len(body) > maxToken:
		return "", faultError("the issuer's answer cannot be read")
	case res.StatusCode != http.StatusOK:
		return "", useError("the issuer gives no token: " + shorten(issuerText(body)))
	}
	token := strings.TrimSpace(string(body))
	if !looksSigned(token) {
		return "", faultError("the issuer's answer is not a signed token")
	}
	return token, nil
}

// issuerText is what an issuer says of a refusal (RFC 6749, 5.2), or its text.
func issuerText(body []byte) string {
	if o, err := decode(body); err == nil {
		if s := safe(o.text("error_description")); s != "" {
			return s
		}
	}
	return safe(string(body))
}

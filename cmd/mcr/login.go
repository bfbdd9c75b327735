package main

import (
	"context"
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
	var as, issuer, file, number, purpose, permission, relationship, ttl string
	c.flags.StringVar(&as, "as", "", "`persona` of the demo: gp, ed-doctor, mh-nurse, social-worker, pharmacist, front-desk, ig-officer, engine, patient, stranger")
	c.flags.StringVar(&issuer, "issuer", "http://127.0.0.1:8090", "`address` of the demo's token issuer")
	c.flags.StringVar(&file, "token-file", "", "`file` that holds a token of your own; - for standard input")
	c.flags.StringVar(&number, "nhs-number", "", "the person whose token it is (persona patient), or about whom the launch is; - for standard input")
	c.flags.StringVar(&purpose, "purpose", "", "what the launch states, if anything: the purpose")
	c.flags.StringVar(&permission, "permission", "", "what the launch states, if anything: the permission")
	c.flags.StringVar(&relationship, "relationship", "", "what the launch states, if anything: the relationship")
	c.flags.StringVar(&ttl, "ttl", "", "how long the token lives, such as 10m")
	if err := c.parse(0); err != nil {
		return err
	}
	if (as == "") == (file == "") {
		return useError("mcr login takes -as PERSONA or -token-file FILE, one of the two")
	}
	var token string
	var err error
	switch file {
	case "":
		form := url.Values{"as": {as}}
		if number, err = a.number(number); err != nil {
			return err
		}
		for name, v := range map[string]string{"nhs_number": number, "purpose": purpose, "permission": permission, "relationship": relationship, "ttl": ttl} {
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
	path, err := a.keep(token)
	if err != nil {
		return err
	}
	if as != "" {
		a.say("Signed in as %s.\n", safe(as))
	} else {
		a.say("Signed in.\n")
	}
	a.say("The token is in %s, readable by you only; mcr logout removes it.\n", safe(path))
	return nil
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
	switch err := os.Remove(path); {
	case err == nil:
		a.say("Signed out.\n")
	case errors.Is(err, os.ErrNotExist):
		a.say("You were not signed in.\n")
	default:
		return useError("the token file cannot be removed: " + safe(path))
	}
	return nil
}

// keep writes the token where only the user can read it, and whole or not at all.
func (a *app) keep(token string) (string, error) {
	path, err := a.tokenPath()
	if err != nil {
		return "", err
	}
	err = func() error {
		if err := os.MkdirAll(a.configDir, 0o700); err != nil {
			return err
		}
		f, err := os.CreateTemp(a.configDir, "token-*") // mode 0600
		if err != nil {
			return err
		}
		_, err = f.WriteString(token + "\n")
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
		return err
	}()
	if err != nil {
		return "", useError("the token cannot be kept in " + safe(filepath.Dir(path)) + ": may you write there?")
	}
	return path, nil
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

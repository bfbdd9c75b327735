package daemon

import (
	"errors"
	"fmt"

	"github.com/mycarerecord/mycarerecord/broker/merge"
)

// sectionRules are those of the file that is named. What is wrong with it is told by file and line.
func sectionRules(cfg Config) (*merge.SectionRules, error) {
	if cfg.SectionsFile == "" {
		return merge.ShippedSections(), nil
	}
	text, err := readCapped(cfg.SectionsFile)
	if err != nil {
		return nil, fmt.Errorf("sectionsFile: %w", &Problems{cfg.SectionsFile, []Problem{{Want: openProblem(err)}}})
	}
	rules, err := merge.ParseSections(text)
	if err == nil {
		return rules, nil
	}
	var lines merge.LineErrors
	if !errors.As(err, &lines) {
		return nil, fmt.Errorf("sectionsFile: %w", err)
	}
	problems := &Problems{File: cfg.SectionsFile}
	for _, x := range lines {
		problems.List = append(problems.List, Problem{Line: x.Line, Want: x.Want})
	}
	return nil, fmt.Errorf("sectionsFile: %w", problems)
}

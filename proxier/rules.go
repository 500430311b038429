package proxier

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/usher-proxy/usher/proxier/admin"
)

// askTime bounds how long somebody who asks waits for the loop, and for the kernel.
const askTime = 25 * time.Second

// inLoop has the reconcile loop do something between two passes, which is then alone
// with the capture. It returns an *admin.Error if that does not come to pass.
func (p *Proxier) inLoop(ctx context.Context, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	done := make(chan struct{})
	ask := func() {
		defer close(done)
		err = do(ctx)
	}
	select {
	case p.asked <- ask:
		<-done // it is bounded by ctx
		return err
	case <-ctx.Done():
		return &admin.Error{Status: http.StatusServiceUnavailable, Message: "usher is busy with a pass; try again"}
	case <-p.loopEnded:
		return &admin.Error{Status: http.StatusServiceUnavailable, Message: "usher is about to end"}
	}
}

func (p *Proxier) showRules(url.Values) (any, error) {
	list := []admin.CapturedBy{}
	err := p.inLoop(context.Background(), func(context.Context) error {
		list = append(list, p.data.capture.expected()...)
		return nil
	})
	return list, err
}

func (p *Proxier) showRuleDifferences(url.Values) (any, error) {
	list := []admin.RuleDifference{}
	err := p.inLoop(context.Background(), func(ctx context.Context) error {
		found, err := p.data.capture.differences(ctx)
		list = append(list, found...)
		return err
	})
	return list, err
}

// repairRules makes a pass that trusts nothing that it knows of the kernel.
func (p *Proxier) repairRules(ctx context.Context, _ url.Values) (any, error) {
	repair := admin.Repair{Repaired: []admin.RuleDifference{}, Left: []admin.RuleDifference{}}
	err := p.inLoop(ctx, func(ctx context.Context) error {
		before, err := p.data.capture.differences(ctx)
		if err != nil {
			return err
		}
		p.reconcile(ctx, true)
		left, err := p.data.capture.differences(ctx)
		if err != nil {
			return fmt.Errorf("after the repair: %w", err)
		}
		repair.Left = append(repair.Left, left...)
		for _, d := range before {
			if !slices.Contains(left, d) {
				repair.Repaired = append(repair.Repaired, d)
			}
		}
		return nil
	})
	return repair, err
}

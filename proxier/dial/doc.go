// Package dial finds an endpoint that can be connected to.
//
//	d := dial.New(mark)
//	defer d.Close()
//	budget := dial.NewTokens(settings.Budget) // one for each Service port
//	result, err := d.Dial(ctx, dial.Call{Client: client, Retry: settings, Picker: picker, Budget: budget})
//	if err != nil {
//		refuse(client, dial.Outcome(result.Attempts, err))
//	}
//	...
//	result.Leave()
//	result.Pick.Done(balancer.Outcome{Connect: result.Connect})
//
// # The way of a search
//
//  1. The policy picks an endpoint that was not tried. One that is at its limit of
//     connections is passed over, which is no attempt.
//  2. An attempt is made, for Retry.Timeout at most. If it succeeds, this is it.
//  3. If the endpoint refused, could not be reached or did not answer, and Retry.On
//     says so, another one is picked. Having no local port left towards an endpoint
//     is such a failure too, as another one has its own; but nobody is told that the
//     endpoint had failed.
//  4. If this process lacks files, or the kernel memory, another endpoint is no
//     better. The pick is given back, and after a pause of 10 ms, later up to 200 ms,
//     the search begins anew with a choice among all that were not really tried.
//     Neither endpoints nor Retry.Attempts nor the budget know of it; the record does.
//  5. The search ends when an endpoint is found, or with what stops it first: no
//     endpoint left, Retry.Attempts, Retry.Total, the budget, another failure, ctx.
//
// # The budget
//
// When all endpoints of a Service are gone, each of its connections would be tried
// Retry.Attempts times, just when there is least to spare. So attempts after the
// first one of a connection are paid for with Tokens that all connections of the
// Service port share.
//
// # Hedging
//
// With Retry.Hedge an attempt that has had no answer for so long does not end, but
// another one begins beside it. The first that succeeds is taken. The others are
// not cancelled: an endpoint that is silent would never be found out if each
// attempt to it ended as soon as a faster one has succeeded. They go on until they
// have an answer, are told of as any other attempt, and what has come of them is
// reset at once. At most 64 do so; further ones are cancelled and say nothing.
//
// What it costs: a goroutine and two timers (about 10 µs and 1.3 kB) for each search,
// also where the first endpoint answers at once; a slow endpoint gets connections on
// which nothing comes; and each loser holds a file, its pick and its place at the
// limit of connections for Retry.Timeout at most. Without Retry.Hedge there is none
// of that.
//
// # What is learned of endpoints
//
// Call.Report and the picks hear how each attempt has ended, if that says something
// of the endpoint. That it was silent does so only when it had all of Retry.Timeout
// to answer, not when Retry.Total has cut that short.
package dial

// Command policies asks Kubernetes' own ValidatingAdmissionPolicy plugin about requests.
//
// Standard input is JSON: the policies, their bindings and the namespaces of a cluster, requests to it,
// and a canary, a request that must be refused. Standard output is a list with an answer for each
// request: "" where it is allowed, or the plugin's refusal.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
)

type input struct {
	Policies   []admissionregistration.ValidatingAdmissionPolicy        `json:"policies"`
	Bindings   []admissionregistration.ValidatingAdmissionPolicyBinding `json:"bindings"`
	Namespaces []core.Namespace                                         `json:"namespaces"`
	Requests   []request                                                `json:"requests"`
	Canary     request                                                  `json:"canary"`
}

type request struct {
	Operation   string          `json:"operation"`
	User        string          `json:"user"`
	Groups      []string        `json:"groups"`
	Group       string          `json:"group"`
	Version     string          `json:"version"`
	Kind        string          `json:"kind"`
	Resource    string          `json:"resource"`
	Subresource string          `json:"subresource"`
	Namespace   string          `json:"namespace"`
	Name        string          `json:"name"`
	Object      json.RawMessage `json:"object"`
	OldObject   json.RawMessage `json:"oldObject"`
}

func main() {
	answers, err := answer()
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answers)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer() ([]string, error) {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	defer close(stop)
	plugin, err := start(&in, stop)
	if err != nil {
		return nil, err
	}
	answers := make([]string, len(in.Requests))
	for place := range in.Requests {
		if err := ask(plugin, &in.Requests[place]); err != nil {
			answers[place] = err.Error()
		}
	}
	return answers, nil
}

func ask(plugin *validating.Plugin, one *request) error {
	interfaces := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	return plugin.Validate(context.Background(), one.attributes(), interfaces)
}

func start(in *input, stop <-chan struct{}) (*validating.Plugin, error) {
	objects := []runtime.Object{}
	for place := range in.Policies {
		fillIn(&in.Policies[place].Spec)
		objects = append(objects, &in.Policies[place])
	}
	for place := range in.Bindings {
		objects = append(objects, &in.Bindings[place])
	}
	for place := range in.Namespaces {
		objects = append(objects, &in.Namespaces[place])
	}
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	plugin, err := validating.NewPlugin(nil)
	if err != nil {
		return nil, err
	}
	plugin.SetExternalKubeClientSet(client)
	plugin.SetExternalKubeInformerFactory(factory)
	plugin.SetRESTMapper(meta.NewDefaultRESTMapper(nil))
	plugin.SetDynamicClient(dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()))
	plugin.SetDrainedNotification(stop)
	plugin.SetAuthorizer(authorizerfactory.NewAlwaysDenyAuthorizer())
	if err := plugin.ValidateInitialization(); err != nil {
		return nil, err
	}
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	return plugin, wait(plugin, &in.Canary)
}

// fillIn sets what the API server fills in where a policy says nothing.
func fillIn(spec *admissionregistration.ValidatingAdmissionPolicySpec) {
	if spec.MatchConstraints.NamespaceSelector == nil {
		spec.MatchConstraints.NamespaceSelector = &metav1.LabelSelector{}
	}
	if spec.MatchConstraints.ObjectSelector == nil {
		spec.MatchConstraints.ObjectSelector = &metav1.LabelSelector{}
	}
}

// wait until the plugin enforces the policies: it compiles them in the background.
func wait(plugin *validating.Plugin, canary *request) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if ask(plugin, canary) != nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the canary is not refused: no policy is enforced")
}

func (one *request) attributes() admission.Attributes {
	kind := schema.GroupVersionKind{Group: one.Group, Version: one.Version, Kind: one.Kind}
	resource := schema.GroupVersionResource{Group: one.Group, Version: one.Version, Resource: one.Resource}
	who := &user.DefaultInfo{Name: one.User, Groups: one.Groups}
	return admission.NewAttributesRecord(
		object(one.Object, kind), object(one.OldObject, kind), kind, one.Namespace, one.Name, resource,
		one.Subresource, admission.Operation(one.Operation), &metav1.CreateOptions{}, false, who,
	)
}

func object(content json.RawMessage, kind schema.GroupVersionKind) runtime.Object {
	if len(content) == 0 || string(content) == "null" {
		return nil
	}
	found, _, err := scheme.Codecs.UniversalDeserializer().Decode(content, &kind, nil)
	if err != nil {
		panic(err)
	}
	return found
}

"""Quality of films of anything: what can be measured without learned weights, and plugins for what cannot."""

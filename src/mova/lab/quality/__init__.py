"""Quality of videos of anything: what can be measured without learned weights, and plugins for what cannot."""

"""What the encoder can be trained for: one file an objective.

An objective says which clips an item of a batch is made of, which chain of effects goes on each, and what the loss is.
To add one, write one file in this folder; its name is free. The file holds a subclass of `Objective` and an instance of
it named OBJECTIVE:

    class WiderMargin(Objective):
        '''Shared chains under a lower temperature.'''

        name = "wider-margin"
        positive_from = "other-song"

        def chains(self, draw):
            shared = draw.fresh()
            return shared, shared, draw.fresh()

        def loss(self, anchor, positive, negative, temperature):
            return info_nce(anchor, positive, negative, temperature / 2)

        def chance_loss(self, batch):
            return math.log(2 * batch)

    OBJECTIVE = WiderMargin()

Nothing else has to be touched: `train.objective=wider-margin` trains with it, a wrong name is answered with the list of
all names, and every objective of this folder goes through tests/pipeline/encoder/test_objectives.py.
"""

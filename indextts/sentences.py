"""What to say where manners are compared: told, not written, with places to rest in.

Manners show in sentences of some length only; a hundred of them tell half way from chance. Written
for this project, so no training set is likely to hold them.
"""

TOLD = """
We were going to leave at seven, but then the neighbour came and wanted to talk about the fence.
I used to think that cooking was boring, until my aunt showed me how to make her bread.
She had two jobs at the time, so we only saw each other on Sundays, and even then not for long.
The first time I drove on the motorway, my father sat beside me and didn't say a single word.
There was a little shop on that corner, it sold buttons, I think, and they knew everybody's name.
He told me the whole story again, from the beginning, although I had been there myself.
What I liked most about the trip was the train, because you could see the whole valley.
If you ask me, they should have fixed the roof before they painted the walls.
My brother always says he'll call back, and then three weeks later he stands at the door.
We tried to grow tomatoes on the balcony, but the birds were faster than we were.
It took me a year to learn that song, and now I can't stand to hear it any more.
The doctor said it was nothing serious, but I should walk more and sit less.
When the power went out, we lit some candles, and for one evening nobody looked at a screen.
I had my interview on a Tuesday, and by Friday they had already given the job to somebody else.
Nobody in our family can sing, which doesn't stop us from trying every Christmas.
She asked me what I wanted to do with my life, and I honestly had no answer.
You have to turn the key twice, push a little with your shoulder, and then it opens by itself.
The dog was so afraid of thunder that he hid in the bath, of all places.
I bought that bicycle from a man who cried when I rode away on it.
They were building the new bridge the whole summer, so we had to take the ferry to get to work.
My grandmother kept every letter she ever got, in shoe boxes, sorted by the year.
The film was all right, I suppose, but the book had a much better ending.
We got lost twice on the way, and both times the same old man showed us the road.
On Saturdays my mother worked late, so my father cooked, and there was always rice.
I don't know much about cars, but that noise didn't sound healthy to me.
The teacher we had in fourth grade could draw any animal you named, in under a minute.
There were nine of us in that house, with one bathroom and a very small table.
He went out to buy some milk, and came back with a cat in his coat.
I'd like to see the mountains again, not to climb them, just to look.
At first the town seemed empty, but in the evening all the people came out into the square.
She can't remember names at all, but she knows everyone's birthday.
The meeting was supposed to take ten minutes, and we came out of there when it was dark.
We have a rule at home that whoever breaks a glass tells a story.
I wanted to be a pilot when I was small, and then I found out that I'm afraid of heights.
That winter the lake froze over completely, and people put up stalls on the ice.
He never finished school, but he could fix a radio with his eyes closed.
The letter arrived two years late, and still it made her happy.
If the weather stays like this, we might as well eat in the garden.
My first computer had no sound, so I whistled the music myself.
It wasn't the money that bothered me, it was the way they told us.
Our neighbour plays the trumpet, and he has got a lot better since last year.
We sat on the roof and counted the planes until somebody called us down for dinner.
The thing about old houses is that you're never really finished with them.
I met her at a bus stop in the rain, and neither of us had an umbrella.
My uncle drove a truck for thirty years and never had an accident, not one.
They asked us to be quiet, so of course everybody began to laugh.
I usually get up at six, make some tea, and read the news before the children wake up.
She had written the whole speech on her hand, and then she had to shake hands with everyone.
The last time it snowed like that, I was still in school.
We had to carry the piano up four floors, because it didn't fit into the lift.
You wouldn't believe how many people wanted to buy that ugly lamp.
He said he'd be there by noon, which in his case means three o'clock.
The baker on our street closed last month, and now we drive ten minutes for bread.
I learned to swim very late, in a river, with a rope around my waist.
There's a photo of me in that hat, but you'll never get to see it.
When my sister moved to the coast, she took everything with her except the plants.
We were so tired by then that we fell asleep in the waiting room.
My boss is a friendly person, as long as nobody touches her coffee cup.
It was one of those days on which everything falls out of your hands.
The guide told us not to feed the monkeys, and he was quite right about that.
I have tried to stop eating sugar three times, and it always ends at a birthday party.
Before we had children, we used to go to the cinema every week.
The house at the end of the road has been empty for years, but the lawn is always cut.
He plays chess with a man in another country, and they have never met.
I think the best advice I ever got was to sleep on it first.
She was the only one who noticed that the clock had stopped.
We could take the early train, or we could stay for breakfast and go by car.
The strange thing was that nobody had rung the bell, and still the dog stood at the door.
My father taught me how to tie a tie, and I've forgotten it every time since.
In the end we painted it green, because that was the only colour we all could live with.
I'm not saying that it was easy, I'm saying that we were lucky.
The market is much smaller now, but the woman with the cheese is still there.
They let us try on the costumes, and mine was so heavy that I couldn't sit down.
We planned the party for weeks, and then it rained and everybody stood in the kitchen.
It's hard to explain, but after a while you can hear whether the bread is done.
He used to be very shy, and now he talks to people on the bus.
The key was under the pot the whole time, exactly where I had put it.
I keep a list of books I want to read, and it only ever gets longer.
At my grandparents' place there was no clock, we ate when somebody was hungry.
She ran back for her phone, missed the train, and met an old friend on the platform.
If I could live anywhere, I'd choose a small town by a big river.
We thought it was a joke at first, until the cow really walked into the church.
I worked in a hotel one summer, and I've made my bed differently ever since.
The children built a tower out of boxes, and it stood there until spring.
You can go in if you like, but take your shoes off and don't wake the baby.
He's been repairing that boat for eleven years, and I don't think he wants to finish.
There was some trouble with the tickets, so we saw the second half only.
My cousin keeps bees on a roof in the middle of the city, and the honey tastes of lime trees.
I said yes before I had thought about it, which is how I got the dog.
They closed the road on account of the flood, and for a week we went shopping by boat.
We still don't know who sent the flowers, but they lasted until March.
The older I get, the more I like to be at home when it rains.
""".strip().splitlines()
